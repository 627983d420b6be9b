"""Comparing layers by cheap edits of a few facts: successive halving."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lga_fast.sweep import statistics

METRICS = (*statistics.SCORE, "log_prob")
# What is measured of an edit, and so the rows of a `Measure`.
VALUES = (*statistics.SCORE, "log_prob", "log_prob/rephrase", "log_prob/locality")

# What edits of facts [start, stop) at each layer do; a row for each of `VALUES`.
Measure = Callable[[Sequence[int], range], dict[int, Float[np.ndarray, "value fact"]]]


@dataclass(frozen=True)
class Round:
    """Layers that were compared, best first, and their means over the facts so far."""

    facts: int
    layers: tuple[int, ...]
    means: dict[str, list[float | None]]  # by name, in the order of `layers`; None: no fact has it

    @classmethod
    def of(cls, layers: Sequence[int], values: dict[int, Float[np.ndarray, "value fact"]]) -> Round:
        """The round that ends with these values; layers best first."""
        means: dict[str, list[float | None]]
        means = {"score": [float(score(values[layer]).mean()) for layer in layers]}
        columns = np.array([statistics.mean(values[layer].T) for layer in layers]).T.tolist()
        for name, column in zip(statistics.SCORE, columns, strict=False):
            means[name] = [None if math.isnan(mean) else mean for mean in column]
        return cls(values[layers[0]].shape[1], tuple(layers), means)


def score(values: Float[np.ndarray, "value fact"]) -> Float[np.ndarray, " fact"]:
    """How well edits serve, from 0 to 1, as a number that one token cannot flip.

    Half is the rewrite accuracy. Half is the mean of what a fact has of the new answer's
    probability (per token, geometric mean) after its prompt and after its paraphrases, and of
    exp(-|change|) of the log-probability of its locality probes' answers.
    """
    rewrite, soft = values[0], np.exp(values[len(statistics.SCORE) :])
    return (rewrite + np.nanmean(soft, 0)) / 2


def halve(
    layers: Sequence[int],
    facts: int,
    budget: int,
    measure: Measure,
) -> Iterator[tuple[Round, dict[int, Float[np.ndarray, "value fact"]]]]:
    """Compare layers in rounds, each on more facts than the last and with half of its layers.

    Sequential halving (Karnin et al., ICML 2013): every round may make an equal part of the edits.

    Args:
        layers: to compare; equal ones keep this order.
        facts: number of facts.
        budget: largest number of edits of one fact at one layer, but one round is always run.
        measure: makes the edits.

    Yields:
        A round, and all values so far by layer, of the first facts. Who has seen enough stops.
    """
    remaining = list(layers)
    values = {layer: np.empty((len(VALUES), 0)) for layer in layers}
    count = math.ceil(math.log2(len(layers))) or 1
    seen = rounds = 0
    while seen < facts and (not rounds or budget >= len(remaining) > 1):
        # Half of the layers go after the first round: one fact would decide too much.
        least = 1 if rounds or budget < 2 * len(remaining) else 2
        each = max(least, budget // (len(remaining) * (count - rounds)))
        places = range(seen, min(facts, seen + each))
        for layer, measured in measure(remaining, places).items():
            values[layer] = np.concatenate([values[layer], measured], 1)
        seen, budget = places.stop, budget - len(remaining) * len(places)
        # A sum of floats depends on their number; equal values must compare as equal.
        means = {layer: round(float(score(values[layer]).mean()), 12) for layer in remaining}
        remaining.sort(key=lambda layer: -means[layer])
        yield Round.of(remaining, values), values
        rounds += 1
        remaining = remaining[: math.ceil(len(remaining) / 2)]
