"""The exhaustive search: every request edited at every layer, and what each edit did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lga_fast import distributed, editors, files, progress
from lga_fast.models import EditableModel, check_loaded
from lga_fast.records import EditRequest
from lga_fast.sweep.layer_edits import LayerResults
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.sweep_run import CHUNK, METRICS, Chunk, SweepOptions, SweepRun


def sweep(
    model: EditableModel,
    requests: Sequence[EditRequest | dict[str, Any]],
    editor: str = "r_rome",
    layers: Sequence[int] | None = None,
    metrics: Sequence[str] = METRICS,
    *,
    out: Path | None = None,
    preset: editors.Preset = "easyedit",
    config: editors.Config | None = None,
    chunk: int = CHUNK,
    show_progress: bool | None = None,
    **options: Any,
) -> Sweep:
    """Edit every request at every layer, each on its own, and measure what the edit did.

    Requests are solved together, a chunk at a time, and measured under virtual edits; the unedited
    model runs over them once for all layers. The model is left as it was.

    Args:
        model: see `lga_fast.load`.
        requests: the facts; those without a subject in their prompt are dropped, and listed.
        editor: a member of `lga_fast.editors`.
        layers: which ones; default: all.
        metrics: members of `lga_fast.metrics`.
        out: a file (.npz), replaced atomically after every chunk; a run of the same configuration
            resumes from it. With several ranks the first one writes it, at the end.
        preset: see `lga_fast.edit`.
        config: see `lga_fast.edit`.
        chunk: number of requests that are edited, measured and written together.
        show_progress: None shows a bar on a terminal only.
        options: of the editor.

    Raises:
        OptionError: an option has the wrong type or is out of its limits.
        DataError: `out` holds something else, or a sweep of another configuration.
        ScoringError: no request can be edited, or there is no such layer.

    Example:
        >>> swept = sweep(model, facts, out=Path("sweep.npz"))
        >>> swept.acc["rewrite"].mean(0)
        array([1.  , 0.99, 0.94, ...])
    """
    check_loaded(model)
    numbers = None if layers is None else tuple(layers)
    settings = SweepOptions(editor, numbers, tuple(metrics), preset, chunk)
    writes = out is not None and distributed.current().is_rank_zero
    with files.locked(out if writes else None):
        run = SweepRun(model, requests, settings, out=out, config=config, **options)
        with progress.bar("sweeping facts", len(run.requests), show_progress) as advance:
            advance(run.finished())
            for start, edited in _missing_chunks(run):
                advance(run.add(start, edited))
        return run.result()


def _missing_chunks(run: SweepRun) -> Iterator[tuple[int, Chunk]]:
    """Missing chunks as they are edited; each of several ranks edits at some of the layers."""
    ranks, missing = distributed.current(), run.missing()
    if ranks.size == 1:
        for start in missing:
            yield start, run.edit_chunk(start)
        return
    ranks.assert_same(**run.configuration, missing=missing)
    # Layer by layer, so that a rank needs what an editor prepares for few of them. An edit runs the
    # blocks from its layer on.
    units = [(layer, start) for layer in run.layers for start in missing]
    costs = [(run.depth - layer) * run.chunk_size(start) for layer, start in units]
    mine = [units[i] for i in ranks.contiguous_shard(costs)]
    with progress.bar("this process's share", len(mine)) as advance:
        own: dict[int, Chunk] = {}
        for start in sorted({start for _, start in mine}):
            layers = [layer for layer, at in mine if at == start]
            own[start] = run.edit_chunk(start, layers)
            advance(len(layers))
    parts = ranks.gather(own)
    for start in missing:
        chunks = [part[start] for part in parts if start in part]
        results = LayerResults.merge([chunk.results for chunk in chunks])
        yield start, Chunk(chunks[0].before, results)
