"""Reductions of a sweep: means over samples, resamples of them, and the best layer of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

# The combined score is the mean of these.
SCORE: tuple[str, ...] = ("rewrite", "rephrase", "locality")

_DIGITS = 12  # means of the same values in another order agree to so many


def combined(
    acc: Mapping[str, Float[np.ndarray, "sample layer"]], names: Sequence[str] = SCORE
) -> Float[np.ndarray, "sample layer"]:
    """Mean of those values that a sample has; NaN where it has none."""
    stack = np.stack([acc[name] for name in names if name in acc])
    finite = np.isfinite(stack)
    count = finite.sum(0)
    return np.where(count, np.where(finite, stack, 0).sum(0) / np.maximum(count, 1), np.nan)


def mean(values: Float[np.ndarray, "sample layer"]) -> Float[np.ndarray, " layer"]:
    """Mean over the samples that have a value; NaN where none has."""
    return means(values, np.ones((1, len(values)), dtype=np.int64))[0]


def means(
    values: Float[np.ndarray, "sample layer"], counts: Int[np.ndarray, "draw sample"]
) -> Float[np.ndarray, "draw layer"]:
    """Means of resamples, in which each sample occurs `counts` times."""
    finite = np.isfinite(values)
    weight = counts @ finite.astype(float)
    total = counts @ np.where(finite, values, 0)
    with np.errstate(invalid="ignore"):
        return np.round(np.where(weight > 0, total / weight, np.nan), _DIGITS)


def resamples(samples: int, draws: int, seed: int) -> Int[np.ndarray, "draw sample"]:
    """How often each sample occurs in each of `draws` bootstrap resamples."""
    even = np.full(samples, 1 / samples)
    return np.random.default_rng(seed).multinomial(samples, even, size=draws)


def regret(
    mean: Float[np.ndarray, " layer"],
    drawn: Float[np.ndarray, "draw layer"],
    places: Sequence[int],
) -> dict[str, float]:
    """Golden layer's mean minus that of the chosen one, with a 95% percentile interval.

    Every resample has its own golden layer, so no resample's regret is negative. Of several
    layers the mean counts.
    """
    regrets = drawn.max(-1) - drawn[:, list(places)].mean(-1)
    low, high = np.percentile(regrets, [2.5, 97.5])
    point = mean.max() - mean[list(places)].mean()
    return {"value": float(point), "low": float(low), "high": float(high)}


def order(columns: Sequence[Float[np.ndarray, "*draw layer"]]) -> Int[np.ndarray, "*draw layer"]:
    """Layers from best to worst by the first value; ties by the next values, then by number.

    NaN sorts last.
    """
    keys = [np.where(np.isnan(values), np.inf, -values) for values in reversed(columns)]
    return np.lexsort(keys, axis=-1)
