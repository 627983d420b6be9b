"""Edits of requests at some layers, and what each did alone: the unit of any search by editing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast import editors, provenance
from lga_fast.errors import ScoringError
from lga_fast.metrics import Before, Values, choose, measure_cases
from lga_fast.models import EditableModel
from lga_fast.models.edit_target import check_editable
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class LayerResults:
    """What the edits of some requests at some layers did."""

    values: dict[int, list[Values]]  # by layer, one per request
    notes: dict[int, list[str]]  # by layer, the editor's notes on requests
    seconds_editing: float
    seconds_measuring: float
    forwards: int  # rows that a plain form of the editor runs; a backward counts as one
    peak_bytes: int  # peak so far: see `lga_fast.provenance.peak_bytes`

    @classmethod
    def merge(cls, parts: Sequence[LayerResults]) -> LayerResults:
        """Results of the same requests at different layers, computed in parallel."""
        return cls(
            {layer: values for part in parts for layer, values in part.values.items()},
            {layer: notes for part in parts for layer, notes in part.notes.items()},
            max(part.seconds_editing for part in parts),
            max(part.seconds_measuring for part in parts),
            sum(part.forwards for part in parts),
            max(part.peak_bytes for part in parts),
        )


class LayerEdits:
    """One editor on one model; what all layers share is computed once.

    Args:
        model: left as it was.
        editor: a member of `lga_fast.editors`.
        metrics: members of `lga_fast.metrics`.
        layers: that may be edited; all are checked before any work.
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
        check_layers(model, layers)
        self.about: dict[str, Any] = json.loads(json.dumps(about))
        del self.about["config_source"]["layer"]
        self._layers = layers
        self._before: Before = {}
        self._solvers: dict[int, editors.Solver] = {}

    def cheapen(self) -> float:
        """Make the editor's cheap edits from now on.

        Returns:
            How many times cheaper an edit becomes.
        """
        times, self._editor = self._editor.times_cheaper, self._editor.cheap()
        self._solvers.clear()
        return times

    def before(self, requests: Sequence[EditRequest]) -> list[Values]:
        """Values of the unedited model, whose answers `edit` compares with."""
        values, answers = measure_cases(self.model, requests, None, self.metrics)
        self._before |= answers
        return values

    def edit(self, layers: Sequence[int], requests: Sequence[EditRequest]) -> LayerResults:
        """Edit requests that `before` has measured, each on its own, and measure them."""
        started = time.perf_counter()
        edits = editors.solve_at({layer: self._solver(layer) for layer in layers}, requests)
        edited = time.perf_counter()
        every = [edit for solved in edits.values() for edit in solved]
        asked = list(requests) * len(edits)
        measured = measure_cases(self.model, asked, every, self.metrics, self._before)[0]
        by_layer = [measured[i : i + len(requests)] for i in range(0, len(every), len(requests))]
        return LayerResults(
            dict(zip(edits, by_layer, strict=True)),
            {
                layer: [note for edit in solved for note in edit.provenance["notes"]]
                for layer, solved in edits.items()
            },
            edited - started,
            time.perf_counter() - edited,
            sum(forwards(edit) for solved in edits.values() for edit in solved),
            provenance.peak_bytes(self.model.device),
        )

    def _solver(self, layer: int) -> editors.Solver:
        if not self._solvers:
            self._editor.measure(self.model, self._layers)
        if layer not in self._solvers:
            self._solvers[layer] = self._editor.prepare(self.model, layer)
            if self._editor.contexts is None:  # they were sampled, and are the same at every layer
                contexts = self._solvers[layer].contexts
                self._editor = replace(self._editor, contexts=contexts)
        return self._solvers[layer]


def check_layers(model: EditableModel, layers: Iterable[int]) -> None:
    """Refuse layers that the model does not have or that cannot be edited.

    Raises:
        ScoringError: there is no such layer, or none is given.
        EditError: the weight to edit is not plain numbers.
    """
    numbers = sorted(set(layers))
    if not numbers or not set(numbers) <= set(range(model.layers)):
        raise ScoringError(
            f"layers {numbers}: expected some of 0 to {model.layers - 1}, the layers of "
            f"{model.name}"
        )
    check_editable(model, numbers)


def columns(cases: Sequence[Values]) -> dict[str, Float[np.ndarray, " case"]]:
    """Values by name; NaN where a case has none."""
    names = dict.fromkeys(name for case in cases for name in case)
    return {name: np.array([case.get(name) for case in cases], dtype=np.float64) for name in names}


def forwards(edit: WeightEdit) -> int:
    """Rows of an edit's optimisation: contexts' and the KL's, in every forward and backward.

    With `bare_value`, the other contexts' once.
    """
    contexts, bare = len(edit.provenance["contexts"]), edit.provenance["config"]["bare_value"]
    optimised, read = (1, contexts - 1) if bare else (contexts, 0)
    passes = [2 * len(losses) - 1 for losses in edit.provenance["losses"]]
    return sum((optimised + 1) * count + read for count in passes)
