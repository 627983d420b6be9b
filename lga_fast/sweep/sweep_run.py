"""A sweep in progress, in memory and in its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lga_fast import distributed, editors, provenance, run_identity
from lga_fast.datasets import easyedit_requests, with_subject
from lga_fast.datasets.jsonl import checksum
from lga_fast.metrics import Values
from lga_fast.models import EditableModel
from lga_fast.options import Options, option
from lga_fast.records import EditRequest
from lga_fast.sweep import result_file
from lga_fast.sweep.layer_edits import LayerEdits, LayerResults, check_layers, columns
from lga_fast.sweep.result import Sweep

METRICS = ("rewrite", "rephrase", "locality")
CHUNK = 16  # enough to fill a batch of the values' optimisation
_COSTS = ("seconds_editing", "seconds_measuring", "forwards", "peak_bytes")


@dataclass(frozen=True)
class SweepOptions(Options):
    """How a sweep edits and measures; see `lga_fast.studies.sweep`."""

    editor: str = option("r_rome", "Editor.", member="lga_fast.editors")
    layers: tuple[int, ...] | None = option(None, "Layers to edit; default: all.", min=0)
    metrics: tuple[str, ...] = option(METRICS, "What to measure.", member="lga_fast.metrics")
    preset: editors.Preset = option("easyedit", "Source of the editor's default options.")
    chunk: int = option(CHUNK, "Number of requests edited and measured together.", min=1)


class Chunk(NamedTuple):
    """Consecutive requests, edited and measured at all layers or some."""

    before: list[Values]  # of the unedited model
    results: LayerResults


class SweepRun:
    """A sweep that is made in chunks, each of so many requests at all layers.

    A chunk is known by the place of its first request. Arguments are those of `sweep`.
    """

    def __init__(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest | dict[str, Any]],
        settings: SweepOptions,
        *,
        out: Path | None = None,
        config: editors.Config | None = None,
        **options: Any,
    ) -> None:
        loaded = easyedit_requests(requests)
        self.requests, self.dropped = with_subject(loaded, "sweep")
        every = model.mlp_layers if settings.layers is None else settings.layers
        self.layers = sorted(set(every))
        check_layers(model, self.layers)
        self._edits = LayerEdits(
            model,
            settings.editor,
            settings.metrics,
            self.layers,
            preset=settings.preset,
            config=config,
            **options,
        )
        of_model = provenance.of(model)
        self.configuration = run_identity.of(
            of_model,
            tokenizer=provenance.tokenizer_checksum(model.tokenizer),
            requests_sha256=checksum(self.requests),
            editor=settings.editor,
            config=self._edits.about["config"],
            metrics=list(settings.metrics),
            layers=self.layers,
            chunk=settings.chunk,
        )
        self._provenance = of_model | self._edits.about | {"data": asdict(loaded.provenance)}
        self._provenance |= distributed.current().provenance()
        self.chunk, self.depth = settings.chunk, model.layers
        self.acc: dict[str, np.ndarray] = {}
        self.before: dict[str, np.ndarray] = {}
        self.runs: list[dict[str, Any]] = []  # which requests each finished chunk has, and its cost
        self.notes: dict[str, list[int]] = {}  # of the editor, with the layers each is of
        self.out = out
        saved = out and result_file.read(out, self.configuration, len(self.requests))
        if saved:
            arrays, about = saved
            self.runs, self.notes = about["runs"], about["notes"]
            self.acc = dict(zip(about["names"], arrays["acc"], strict=True))
            self.before = dict(zip(about["names"], arrays["before"], strict=True))

    def finished(self) -> int:
        """Number of requests in finished chunks."""
        return sum(stop - start for start, stop in (run["requests"] for run in self.runs))

    def missing(self) -> list[int]:
        """Chunks that are not finished."""
        finished = {run["requests"][0] for run in self.runs}
        return [n for n in range(0, len(self.requests), self.chunk) if n not in finished]

    def chunk_size(self, start: int) -> int:
        """Number of requests in a chunk."""
        return len(self._requests_of(start))

    def edit_chunk(self, start: int, layers: Sequence[int] | None = None) -> Chunk:
        """Edit a chunk's requests at these layers; default: at every one."""
        requests = self._requests_of(start)
        before = self._edits.before(requests)
        return Chunk(before, self._edits.edit(layers or self.layers, requests))

    def add(self, start: int, chunk: Chunk) -> int:
        """Add a chunk, from whichever process, and save; returns its number of requests."""
        results, rows = chunk.results, slice(start, start + self.chunk)
        self._put(self.before, chunk.before, rows)
        for place, layer in enumerate(self.layers):
            self._put(self.acc, results.values[layer], rows, place)
            for note in results.notes[layer]:
                self.notes.setdefault(note, []).append(layer)
        costs = {name: value for name, value in asdict(results).items() if name in _COSTS}
        stop = start + len(chunk.before)
        made = {"commit": provenance.commit(), "kernel": self._provenance["kernel"]}
        self.runs.append({"requests": [start, stop]} | made | costs)
        if self.out is not None and distributed.current().is_rank_zero:
            self._save(self.out)
        return len(chunk.before)

    def result(self) -> Sweep:
        """The sweep so far; missing requests are NaN."""
        case_ids = tuple(request.case_id for request in self.requests)
        about = {"configuration": self.configuration, "runs": self.runs, "notes": self.notes}
        about = self._provenance | about
        return Sweep(self.acc, self.before, case_ids, tuple(self.layers), self.dropped, about)

    def _requests_of(self, start: int) -> list[EditRequest]:
        return self.requests[start : start + self.chunk]

    def _put(
        self, into: dict[str, np.ndarray], cases: list[Values], rows: slice, *layer: int
    ) -> None:
        """Set values of some requests, of all layers or at one."""
        shape = (len(self.requests), *[len(self.layers) for _ in layer])
        for name, column in columns(cases).items():
            into.setdefault(name, np.full(shape, np.nan))[(rows, *layer)] = column

    def _save(self, path: Path) -> None:
        case_ids = [request.case_id for request in self.requests]
        about = {"configuration": self.configuration, "case_ids": case_ids}
        about |= {"names": list(self.acc), "runs": self.runs, "notes": self.notes}
        acc, before = ([values[n] for n in self.acc] for values in (self.acc, self.before))
        result_file.write(path, np.array(acc), np.array(before), about)
