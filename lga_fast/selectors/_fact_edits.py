"""Edits of a few facts at a few layers, shared among processes: what a race compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from lga_fast import distributed
from lga_fast.records import EditRequest
from lga_fast.sweep.layer_edits import LayerEdits, LayerResults, columns
from lga_fast.sweep.successive_halving import VALUES


@dataclass
class FactEdits:
    """Edits of some facts, made as they are asked for.

    Args:
        edits: makes them; it has measured the facts before any edit.
        facts: that may be edited.
        advance: called with the number of edits that this process made.
    """

    edits: LayerEdits
    facts: Sequence[EditRequest]
    advance: Callable[[int], None]
    results: list[LayerResults] = field(default_factory=list, init=False)  # of all processes

    def measure(
        self, layers: Sequence[int], places: range
    ) -> dict[int, Float[np.ndarray, "value fact"]]:
        """Edit the facts at these places at every layer; a row for each of `VALUES`."""
        ranks, depth = distributed.current(), self.edits.model.layers
        units = [(layer, place) for layer in layers for place in places]
        mine = [units[i] for i in ranks.contiguous_shard([depth - layer for layer, _ in units])]
        together: dict[tuple[int, ...], list[int]] = {}  # layers that share facts share forwards
        for layer in dict.fromkeys(layer for layer, _ in mine):
            own = tuple(place for at, place in mine if at == layer)
            together.setdefault(own, []).append(layer)
        made = list[LayerResults]()
        for own, at in together.items():
            made.append(self.edits.edit(at, [self.facts[place] for place in own]))
            self.advance(len(own) * len(at))
        results = [result for part in ranks.gather(made) for result in part]
        self.results.extend(results)
        values: dict[int, Float[np.ndarray, "value fact"]] = {}
        for layer in layers:
            cases = [v for result in results for v in result.values.get(layer, [])]
            by_name, missing = columns(cases), np.full(len(cases), np.nan)
            values[layer] = np.array([by_name.get(name, missing) for name in VALUES])
        return values

    @property
    def count(self) -> int:
        """Edits so far, of one fact at one layer each."""
        return sum(len(cases) for result in self.results for cases in result.values.values())

    @property
    def forwards(self) -> int:
        """Rows that these edits ran through the model: see `LayerResults.forwards`."""
        return sum(result.forwards for result in self.results)

    @property
    def notes(self) -> list[str]:
        """What the editor noted on any of the facts, each note once."""
        every = (notes for result in self.results for notes in result.notes.values())
        return sorted({note for notes in every for note in notes})
