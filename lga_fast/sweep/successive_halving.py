"""Comparing layers by edits of a few facts: sequential halving, and when layers tie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast.sweep import statistics

# What edits of facts [start, stop) at each layer do; a row for each value of `_reduce.SCORE`.
Measure = Callable[[Sequence[int], range], Mapping[int, Float[np.ndarray, "metric fact"]]]


@dataclass(frozen=True)
class Round:
    """Layers that were compared, best first, and their means over the facts so far."""

    facts: int
    layers: tuple[int, ...]
    means: Float[np.ndarray, "metric layer"]

    def account(self) -> dict[str, Any]:
        """Plain data; None where no fact has a value."""
        named = zip(statistics.SCORE, self.means.tolist(), strict=True)
        plain = {name: [None if math.isnan(x) else x for x in row] for name, row in named}
        return {"facts": self.facts, "layers": list(self.layers), **plain}


def halve(
    candidates: Sequence[int], facts: int, budget: int, measure: Measure
) -> tuple[list[int], list[Round]]:
    """Compare layers in rounds, each on more facts than the one before and with half of its layers.

    Args:
        candidates: first is best, where the measured values leave a tie.
        facts: that there are.
        budget: edits, of one fact at one layer each; layers that it cannot serve are not compared.
        measure: makes the edits.

    Returns:
        The compared layers, best first, and the rounds. Without any round the first candidate.
    """
    left, out = list(candidates[: max(1, budget)]), list[int]()
    values = {layer: np.empty((len(statistics.SCORE), 0)) for layer in left}
    rounds: list[Round] = []
    seen = 0
    while len(left) > 1 and seen < facts and budget >= len(left):
        share = budget // (len(left) * math.ceil(math.log2(len(left))))
        more = range(seen, min(facts, seen + max(1, share)))
        for layer, found in measure(left, more).items():
            values[layer] = np.concatenate([values[layer], found], 1)
        seen, budget = more.stop, budget - len(left) * len(more)
        left = better_first(left, values)
        means = np.array([statistics.mean(values[layer].T) for layer in left])
        rounds.append(Round(seen, tuple(left), means.T))
        half = math.ceil(len(left) / 2)
        left, out = left[:half], left[half:] + out
    return (left + out if rounds else left[:1]), rounds


def better_first(
    layers: Sequence[int], values: Mapping[int, Float[np.ndarray, "metric fact"]]
) -> list[int]:
    """Layers that tie with the one of the best rewrite accuracy, then the others.

    Both are ordered by the mean of rewrite, rephrase and locality; what is equal in that keeps its
    order. Of a single fact there is no standard error, so that all layers tie.
    """
    rewrite = {layer: values[layer][0] for layer in layers}
    best = rewrite[max(layers, key=lambda layer: round(rewrite[layer].mean(), 12))]

    def ties(layer: int) -> bool:
        less = best - rewrite[layer]
        error = less.std(ddof=1) / math.sqrt(len(less)) if len(less) > 1 else math.inf
        return bool(less.mean() <= error + 1e-12)

    def score(layer: int) -> float:
        named = dict(zip(statistics.SCORE, values[layer][:, :, None], strict=True))
        return float(statistics.mean(statistics.combined(named))[0])

    return sorted(layers, key=lambda layer: (not ties(layer), -score(layer)))
