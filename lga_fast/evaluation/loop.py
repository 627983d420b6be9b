"""The one loop over requests to edit and to measure; it knows no editor and no metric."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from lga_fast import progress, provenance
from lga_fast.editors import Solver
from lga_fast.evaluation.options import EvalWhen, Mode
from lga_fast.evaluation.results_file import CaseFile
from lga_fast.evaluation_records import CaseResult
from lga_fast.export.edit_records import stack_deltas
from lga_fast.metrics import CaseMetric, SummaryMetric, measure_cases
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class Loop:
    """Edits and measures what `file` has no results of yet; the model is left as it was.

    Chunks are cut by the requests' order alone, so that a run that goes on computes what an
    uninterrupted one would, to the bit.
    """

    model: EditableModel
    layer: int
    requests: Sequence[EditRequest]
    metrics: Mapping[str, CaseMetric | SummaryMetric]
    file: CaseFile
    chunk: int

    def run(self, solver: Solver, mode: Mode, eval_when: EvalWhen) -> Iterator[int]:
        """Yield how many cases were added, each time that some were."""
        if mode == "single":
            yield from self._single(solver)
        elif eval_when == "after_each":
            yield from self._after_each(solver)
        else:
            yield from self._at_end(solver, mode)

    def _single(self, solver: Solver) -> Iterator[int]:
        for start in self._starts():
            started = time.perf_counter()
            changes = solver.solve_independent(self.requests[start : start + self.chunk])
            yield self._measure(start, changes, time.perf_counter() - started)

    def _at_end(self, solver: Solver, mode: Mode) -> Iterator[int]:
        started = time.perf_counter()
        if mode == "batch":
            whole = solver.solve_joint(self.requests)
            changes = [whole] * len(self.requests)
        else:
            changes = []
            with progress.bar("editing in turn", len(self.requests)) as advance:
                for change, whole in self._turns(solver):  # noqa: B007 - the last one is used
                    changes.append(change)
                    advance(1)
        seconds = (time.perf_counter() - started) / len(self.requests)
        for start in self._starts():
            part = changes[start : start + self.chunk]
            yield self._measure(start, part, seconds * len(part), whole)

    def _after_each(self, solver: Solver) -> Iterator[int]:
        started, done = time.perf_counter(), len(self.file.results)
        for start, (change, whole) in enumerate(self._turns(solver)):
            if start >= done:
                yield self._measure(start, [change], time.perf_counter() - started, whole)
            started = time.perf_counter()

    def _starts(self) -> range:
        done = len(self.file.results)
        return range(done - done % self.chunk, len(self.requests), self.chunk)

    def _turns(self, solver: Solver) -> Iterator[tuple[WeightEdit, WeightEdit]]:
        """Each request's edit, solved on the model that carries the ones before; and with them."""
        whole = None
        for request in self.requests:
            with self._carrying(whole):
                change = solver.solve_joint([request])
            whole = change if whole is None else _together(whole, change)
            yield change, whole

    def _carrying(self, whole: WeightEdit | None) -> AbstractContextManager[Any]:
        return nullcontext() if whole is None else self.model.edited(whole)

    def _measure(
        self,
        start: int,
        changes: Sequence[WeightEdit],
        seconds_edit: float,
        whole: WeightEdit | None = None,
    ) -> int:
        """Measure the requests from `start` on, of which there are as many as changes.

        Under `whole`, applied to the weights; without it each under its own change.
        """
        few = self.requests[start : start + len(changes)]
        started = time.perf_counter()
        plain, before = measure_cases(self.model, few, None, self.metrics)
        with self._carrying(whole):
            own = changes if whole is None else None
            after, _ = measure_cases(self.model, few, own, self.metrics, before)
        seconds = (time.perf_counter() - started) / len(few)
        peak = provenance.peak_bytes(self.model.device)
        results = [
            CaseResult(
                request.case_id,
                self.layer,
                old,
                new,
                _notes(change, request),
                seconds_edit / len(few),
                seconds,
                peak,
            )
            for request, old, new, change in zip(few, plain, after, changes, strict=True)
        ]
        new_ones = results[len(self.file.results) - start :]
        self.file.add(new_ones)
        return len(new_ones)


def _together(whole: WeightEdit, change: WeightEdit) -> WeightEdit:
    """Both edits as one, of the model that the first was solved on.

    Its rank grows with every edit, but a sequence then holds one copy of a weight to go back to,
    not one for each edit, and weights of low precision are rounded once.
    """
    about = {"model_fingerprint": whole.model_fingerprint}
    return WeightEdit(stack_deltas([whole, change]), about)


def _notes(change: WeightEdit, request: EditRequest) -> tuple[str, ...]:
    """What an edit's notes say of the request, or of no request in particular."""
    own = f"request {request.case_id!r}: "
    notes = change.provenance.get("notes", ())
    mine = [note for note in notes if note.startswith(own) or not note.startswith("request ")]
    return tuple(note.removeprefix(own) for note in mine)
