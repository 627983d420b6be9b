"""Reductions of a sweep: means over samples, resamples of them, and the best layer of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

SCORE: tuple[str, ...] = (
    "rewrite",
    "rephrase",
    "locality",
)  # what the combined score is the mean of

_DIGITS = 12  # means of the same values in another order differ behind these


def combined(
    acc: Mapping[str, Float[np.ndarray, "sample layer"]], names: Sequence[str] = SCORE
) -> Float[np.ndarray, "sample layer"]:
    """Mean of a sample's values, of those that it has; NaN where it has none."""
    stack = np.stack([acc[name] for name in names if name in acc])
    there = np.isfinite(stack)
    count = there.sum(0)
    return np.where(count, np.where(there, stack, 0).sum(0) / np.maximum(count, 1), np.nan)


def mean(values: Float[np.ndarray, "sample layer"]) -> Float[np.ndarray, " layer"]:
    """Mean over the samples that have a value; NaN where none has."""
    return means(values, np.ones((1, len(values)), dtype=np.int64))[0]


def means(
    values: Float[np.ndarray, "sample layer"], counts: Int[np.ndarray, "draw sample"]
) -> Float[np.ndarray, "draw layer"]:
    """Means of resamples, in which each sample comes `counts` times."""
    there = np.isfinite(values)
    weight = counts @ there.astype(float)
    total = counts @ np.where(there, values, 0)
    with np.errstate(invalid="ignore"):
        return np.round(np.where(weight > 0, total / weight, np.nan), _DIGITS)


def resamples(samples: int, draws: int, seed: int) -> Int[np.ndarray, "draw sample"]:
    """How often each sample comes in each of so many bootstrap resamples."""
    even = np.full(samples, 1 / samples)
    return np.random.default_rng(seed).multinomial(samples, even, size=draws)


def regret(
    mean: Float[np.ndarray, " layer"],
    drawn: Float[np.ndarray, "draw layer"],
    places: Sequence[int],
) -> dict[str, float]:
    """Golden layer's mean minus that of the chosen one, with a 95% percentile interval.

    Every resample has its own golden layer, so that no resample's regret is below 0. Of several
    layers the mean counts.
    """
    every = drawn.max(-1) - drawn[:, list(places)].mean(-1)
    low, high = np.percentile(every, [2.5, 97.5])
    point = mean.max() - mean[list(places)].mean()
    return {"value": float(point), "low": float(low), "high": float(high)}


def order(columns: Sequence[Float[np.ndarray, "*draw layer"]]) -> Int[np.ndarray, "*draw layer"]:
    """Layers from best to worst: by the first value; equal ones by the next, at last by number.

    A value that is NaN is the least.
    """
    keys = [np.where(np.isnan(values), np.inf, -values) for values in reversed(columns)]
    return np.lexsort(keys, axis=-1)
