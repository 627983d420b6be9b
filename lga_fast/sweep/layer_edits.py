"""Edits of requests at one layer and what each did alone: the unit of every search by editing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast import editors, provenance
from lga_fast.metrics import Before, Values, choose, measure_cases
from lga_fast.models import EditableModel
from lga_fast.models.edit_target import check_editable
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class Done:
    """What the edits of some requests at some layers did."""

    values: dict[int, list[Values]]  # by layer, one per request
    notes: dict[int, list[str]]  # by layer, what the editor had to say of requests
    seconds_editing: float
    seconds_measuring: float
    forwards: int  # rows that a plain form of the editor runs; a backward counts as one
    peak_bytes: int  # most memory held until then: see `lga_fast.provenance.peak_bytes`


class LayerEdits:
    """One editor on one model; what holds for every layer is found once.

    Args:
        model: left as it was.
        editor: a member of `lga_fast.editors`.
        metrics: members of `lga_fast.metrics`.
        layers: that may be edited; all are checked before any work is done.
        preset: see `lga_fast.edit`.
        config: see `lga_fast.edit`.
        options: of the editor.
    """

    def __init__(
        self,
        model: EditableModel,
        editor: str,
        metrics: Sequence[str],
        layers: Sequence[int],
        *,
        preset: editors.Preset = "easyedit",
        config: editors.Config | None = None,
        **options: Any,
    ) -> None:
        self.model, self.metrics = model, choose(metrics)
        self._editor, _, about = editors.resolve(model, editor, layers[0], preset, config, options)
        check_editable(model, layers)
        self.about: dict[str, Any] = json.loads(json.dumps(about))
        del self.about["config_source"]["layer"]
        self._before: Before = {}
        self._solvers: dict[int, editors.Solver] = {}

    def drop_contexts(self, layer: int) -> float:
        """Solve for the bare prompt alone from now on.

        Returns:
            How many times cheaper an edit becomes. Its cost is about that of its rows, one for each
            context and the KL's, and one more for measuring: 3 of 23 for ROME's 21 contexts, where
            0.13 of the time was measured on the atlas models.
        """
        own = self._solver(layer).contexts
        self._editor = replace(self._editor, contexts=())
        self._solvers.clear()
        return (len(own) + 2) / 3

    def before(self, requests: Sequence[EditRequest]) -> list[Values]:
        """Values of the unedited model, whose answers `at` compares with."""
        values, answers = measure_cases(self.model, requests, None, self.metrics)
        self._before |= answers
        return values

    def at(self, layers: Sequence[int], requests: Sequence[EditRequest]) -> Done:
        """Edit requests that `before` has seen, each alone in its effect, and measure them."""
        started = time.perf_counter()
        edits = editors.solve_at({layer: self._solver(layer) for layer in layers}, requests)
        edited = time.perf_counter()
        values = {
            layer: measure_cases(self.model, requests, few, self.metrics, self._before)[0]
            for layer, few in edits.items()
        }
        every = [edit for few in edits.values() for edit in few]
        return Done(
            values,
            {n: [note for e in few for note in e.provenance["notes"]] for n, few in edits.items()},
            edited - started,
            time.perf_counter() - edited,
            sum(map(forwards, every)),
            provenance.peak_bytes(self.model.device),
        )

    def _solver(self, layer: int) -> editors.Solver:
        if layer not in self._solvers:
            self._solvers[layer] = self._editor.prepare(self.model, layer)
            if self._editor.contexts is None:  # they were sampled, and are the same at every layer
                own = self._solvers[layer].contexts
                self._editor = replace(self._editor, contexts=own)
        return self._solvers[layer]


def columns(cases: Sequence[Values]) -> dict[str, Float[np.ndarray, " case"]]:
    """Values by name; NaN where a case has none."""
    names = dict.fromkeys(name for case in cases for name in case)
    found = {name: [case.get(name) for case in cases] for name in names}
    return {name: np.array(column, dtype=np.float64) for name, column in found.items()}


def forwards(edit: WeightEdit) -> int:
    """Rows of an edit's optimisation: all contexts' and the KL's, in every forward and backward."""
    rows = len(edit.provenance["contexts"]) + 1
    return sum(rows * (2 * len(losses) - 1) for losses in edit.provenance["losses"])
