"""The exhaustive search: every request edited at every layer, and what each edit did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lga_fast import distributed, editors, progress, provenance, run_identity
from lga_fast.datasets import easyedit_requests
from lga_fast.datasets.jsonl import checksum
from lga_fast.errors import DataError, ScoringError
from lga_fast.metrics import Values
from lga_fast.models import EditableModel
from lga_fast.records import Dropped, EditRequest
from lga_fast.sweep import result_file
from lga_fast.sweep.layer_edits import Done, LayerEdits, columns
from lga_fast.sweep.result import Sweep

_ACCOUNT = ("seconds_editing", "seconds_measuring", "forwards", "peak_bytes")
METRICS = ("rewrite", "rephrase", "locality")
CHUNK = 16  # enough to fill a batch of the values' optimisation


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
    """Edit every request at every layer, each edit alone, and measure what it did.

    Requests are solved together, a chunk at a time, and measured under virtual edits; the unedited
    model runs over them once for all layers. The model stays as it was.

    Args:
        model: see `lga_fast.load`.
        requests: the facts; those without a subject in their prompt are dropped, and listed.
        editor: a member of `lga_fast.editors`.
        layers: which ones; default: all.
        metrics: members of `lga_fast.metrics`.
        out: a file (.npz) that is replaced as a whole after every chunk; a run of the same
            configuration goes on where the last one stopped. Of several ranks the first writes
            it, in the end.
        preset: see `lga_fast.edit`.
        config: see `lga_fast.edit`.
        chunk: requests that are edited and measured together, and results written at once.
        show_progress: None shows a bar on a terminal only.
        options: of the editor.

    Raises:
        DataError: `out` holds something else, or a sweep of another configuration.
        ScoringError: no request can be edited, or there is no such layer.

    Example:
        >>> made = sweep(model, facts, out=Path("sweep.npz"))
        >>> made.acc["rewrite"].mean(0)
        array([1.  , 0.99, 0.94, ...])
    """
    run = Sweeping(
        model,
        requests,
        editor,
        layers,
        metrics,
        out=out,
        chunk=chunk,
        preset=preset,
        config=config,
        **options,
    )
    with progress.bar("sweeping facts", len(run.requests), show_progress) as advance:
        advance(run.done())
        for start, found in _found(run):
            advance(run.add(start, found))
    return run.result()


class Chunk(NamedTuple):
    """What was found of some requests, at all layers or some."""

    before: list[Values]
    done: Done


class Sweeping:
    """A sweep that is being made, in memory and in its file; arguments are those of `sweep`.

    It is made in chunks, so many requests at all layers, known by the place of their first request.
    """

    def __init__(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest | dict[str, Any]],
        editor: str,
        layers: Sequence[int] | None,
        metrics: Sequence[str],
        *,
        out: Path | None,
        chunk: int = CHUNK,
        **how: Any,
    ) -> None:
        if chunk < 1:
            raise DataError(f"chunk={chunk}: expected a number of requests, 1 or more")
        given = easyedit_requests(requests)
        self.requests = [request for request in given if request.subject_span is not None]
        self.dropped = tuple(
            Dropped(request.case_id, "its subject is not in its prompt")
            for request in given
            if request.subject_span is None
        )
        if not self.requests:
            raise ScoringError(
                f"sweep: none of {len(given)} requests has its subject in its prompt"
            )
        self.layers = list(range(model.layers)) if layers is None else sorted(set(layers))
        if not self.layers or not set(self.layers) <= set(range(model.layers)):
            raise ScoringError(
                f"layers {self.layers}: expected some of 0 to {model.layers - 1}, which are those "
                f"of {model.name}"
            )
        self._edits = LayerEdits(model, editor, metrics, self.layers, **how)
        made = provenance.of(model)
        self.configuration = run_identity.of(
            made,
            tokenizer=provenance.tokenizer_checksum(model.tokenizer),
            requests_sha256=checksum(self.requests),
            editor=editor,
            config=self._edits.about["config"],
            metrics=list(metrics),
            layers=self.layers,
            chunk=chunk,
        )
        self._made = made | self._edits.about | {"data": asdict(given.provenance)}
        self._made |= distributed.current().provenance()
        self.chunk, self.depth = chunk, model.layers
        self.acc: dict[str, np.ndarray] = {}
        self.before: dict[str, np.ndarray] = {}
        self.runs: list[dict[str, Any]] = []  # an account of each chunk that is done
        self.notes: dict[str, list[int]] = {}  # what the editor said, and at which layers
        self.out = out
        if out is not None and (found := result_file.read(out, self.configuration)) is not None:
            arrays, about = found
            self.runs, self.notes = about["runs"], about["notes"]
            self.acc = dict(zip(about["names"], arrays["acc"], strict=True))
            self.before = dict(zip(about["names"], arrays["before"], strict=True))

    def done(self) -> int:
        """Requests that are done."""
        return sum(stop - start for start, stop in (run["requests"] for run in self.runs))

    def missing(self) -> list[int]:
        """Chunks that are to be done."""
        done = {run["requests"][0] for run in self.runs}
        return [n for n in range(0, len(self.requests), self.chunk) if n not in done]

    def at(self, start: int, layers: Sequence[int] | None = None) -> Chunk:
        """Edit a chunk's requests at these layers; default: at every one."""
        few = self.requests[start : start + self.chunk]
        return Chunk(self._edits.before(few), self._edits.at(layers or self.layers, few))

    def add(self, start: int, found: Chunk) -> int:
        """Put in a chunk, whichever process did it, and write all; how many requests it had."""
        done, rows = found.done, slice(start, start + self.chunk)
        self._put(self.before, found.before, rows)
        for place, layer in enumerate(self.layers):
            self._put(self.acc, done.values[layer], rows, place)
            for note in done.notes[layer]:
                self.notes.setdefault(note, []).append(layer)
        account = {name: value for name, value in asdict(done).items() if name in _ACCOUNT}
        asked = [start, start + len(found.before)]
        self.runs.append({"requests": asked, "commit": provenance.commit()} | account)
        if self.out is not None and distributed.current().is_rank_zero:
            case_ids = [request.case_id for request in self.requests]
            about = {"configuration": self.configuration, "case_ids": case_ids}
            about |= {"names": list(self.acc), "runs": self.runs, "notes": self.notes}
            acc, before = ([values[n] for n in self.acc] for values in (self.acc, self.before))
            result_file.write(self.out, np.array(acc), np.array(before), about)
        return len(found.before)

    def _put(
        self, into: dict[str, np.ndarray], cases: list[Values], rows: slice, *layer: int
    ) -> None:
        """Values of some requests, all of them or those of a layer."""
        shape = (len(self.requests), *[len(self.layers) for _ in layer])
        for name, column in columns(cases).items():
            into.setdefault(name, np.full(shape, np.nan))[(rows, *layer)] = column

    def result(self) -> Sweep:
        """What there is; requests that are missing are NaN."""
        case_ids = tuple(request.case_id for request in self.requests)
        made = self._made | {"configuration": self.configuration}
        made |= {"runs": self.runs, "notes": self.notes}
        return Sweep(self.acc, self.before, case_ids, tuple(self.layers), self.dropped, made)


def _found(run: Sweeping) -> Iterator[tuple[int, Chunk]]:
    """Chunks that are missing; of several ranks each edits at some layers, and all come at last."""
    ranks, missing = distributed.current(), run.missing()
    if ranks.size == 1:
        for start in missing:
            yield start, run.at(start)
        return
    ranks.assert_same(**run.configuration, missing=missing)
    # Layer by layer, so that a rank needs what an editor prepares for few of them. An edit runs the
    # blocks from its layer on.
    units = [(layer, start) for layer in run.layers for start in missing]
    sizes = {start: len(run.requests[start : start + run.chunk]) for start in missing}
    mine = [
        units[i] for i in ranks.contiguous_shard([(run.depth - n) * sizes[at] for n, at in units])
    ]
    with progress.bar("this process's share", len(mine)) as advance:
        own: dict[int, Chunk] = {}
        for start in sorted({start for _, start in mine}):
            layers = [layer for layer, at in mine if at == start]
            own[start] = run.at(start, layers)
            advance(len(layers))
    parts = ranks.gather(own)
    for start in missing:
        yield start, _joined([part[start] for part in parts if start in part])


def _joined(parts: list[Chunk]) -> Chunk:
    """One chunk, of parts at different layers."""
    done = [part.done for part in parts]
    return Chunk(
        parts[0].before,
        Done(
            {layer: values for one in done for layer, values in one.values.items()},
            {layer: notes for one in done for layer, notes in one.notes.items()},
            max(one.seconds_editing for one in done),
            max(one.seconds_measuring for one in done),
            sum(one.forwards for one in done),
            max(one.peak_bytes for one in done),
        ),
    )
