"""Comparing layers by edits of a few facts: sequential halving, and when layers tie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast.sweep import statistics

# What edits of facts [start, stop) at each layer do; a row for each of `statistics.SCORE`.
Measure = Callable[[Sequence[int], range], Mapping[int, Float[np.ndarray, "metric fact"]]]


@dataclass(frozen=True)
class Round:
    """Layers that were compared, best first, and their means over the facts so far."""

    facts: int
    layers: tuple[int, ...]
    means: Float[np.ndarray, "metric layer"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; None where no fact has a value."""
        named = zip(statistics.SCORE, self.means.tolist(), strict=True)
        plain = {name: [None if math.isnan(x) else x for x in row] for name, row in named}
        return {"facts": self.facts, "layers": list(self.layers), **plain}


def halve(
    candidates: Sequence[int], facts: int, budget: int, measure: Measure
) -> tuple[list[int], list[Round]]:
    """Compare layers in rounds, each on more facts than the last and with half of its layers.

    Args:
        candidates: best first; their order breaks ties of the measured values.
        facts: number of facts.
        budget: number of edits of one fact at one layer; layers beyond it are not compared.
        measure: makes the edits.

    Returns:
        The compared layers, best first, and the rounds. Without any round only the first candidate.
    """
    remaining, dropped = list(candidates[: max(1, budget)]), list[int]()
    values = {layer: np.empty((len(statistics.SCORE), 0)) for layer in remaining}
    rounds: list[Round] = []
    seen = 0
    while len(remaining) > 1 and seen < facts and budget >= len(remaining):
        share = budget // (len(remaining) * math.ceil(math.log2(len(remaining))))
        places = range(seen, min(facts, seen + max(1, share)))
        for layer, measured in measure(remaining, places).items():
            values[layer] = np.concatenate([values[layer], measured], 1)
        seen, budget = places.stop, budget - len(remaining) * len(places)
        remaining = better_first(remaining, values)
        means = np.array([statistics.mean(values[layer].T) for layer in remaining])
        rounds.append(Round(seen, tuple(remaining), means.T))
        half = math.ceil(len(remaining) / 2)
        remaining, dropped = remaining[:half], remaining[half:] + dropped
    return (remaining + dropped if rounds else remaining[:1]), rounds


def better_first(
    layers: Sequence[int], values: Mapping[int, Float[np.ndarray, "metric fact"]]
) -> list[int]:
    """Layers that tie with the one of the best rewrite accuracy, then the others.

    Both groups are ordered by the mean of rewrite, rephrase and locality; equal layers keep their
    order. A single fact has no standard error, so all layers tie.
    """
    rewrite = {layer: values[layer][0] for layer in layers}
    best = rewrite[max(layers, key=lambda layer: round(rewrite[layer].mean(), 12))]

    def ties(layer: int) -> bool:
        gap = best - rewrite[layer]
        error = gap.std(ddof=1) / math.sqrt(len(gap)) if len(gap) > 1 else math.inf
        return bool(gap.mean() <= error + 1e-12)

    def score(layer: int) -> float:
        named = dict(zip(statistics.SCORE, values[layer][:, :, None], strict=True))
        return float(statistics.mean(statistics.combined(named))[0])

    return sorted(layers, key=lambda layer: (not ties(layer), -score(layer)))
