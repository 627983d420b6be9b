"""Tukey's fences and the argmax within them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Bool, Float, Int

from lga_fast.records import EditKind


def default_constant(kinds: Collection[EditKind]) -> float:
    """κ of arXiv 2602.20207: 1.0, or 0.5 where no request is a plain fact."""
    return 1.0 if "factual" in kinds else 0.5


def fences(
    scores: Float[np.ndarray, "*draw layer"], constant: float
) -> tuple[Float[np.ndarray, "*draw"], Float[np.ndarray, "*draw"]]:
    """Lower and upper fence q1 - κ·iqr and q3 + κ·iqr (arXiv 2602.20207, appendix A)."""
    q1, q3 = np.percentile(scores, [25, 75], axis=-1)  # 'linear'
    return np.asarray(q1 - constant * (q3 - q1)), np.asarray(q3 + constant * (q3 - q1))


def within(
    scores: Float[np.ndarray, "*draw layer"], constant: float
) -> Bool[np.ndarray, "*draw layer"]:
    """Which layers lie within the fences, or on one.

    All do where there are fewer than four layers or the quartiles coincide: fences need a
    spread. Computed once, not again after removal.
    """
    if scores.shape[-1] < 4:
        return np.ones(scores.shape, dtype=bool)
    low, high = fences(scores, constant)
    inside = (scores >= low[..., None]) & (scores <= high[..., None])
    # κ·iqr = 0 with κ > 0 means that the quartiles coincide.
    return inside | ((low == high)[..., None] & (constant > 0))


def choose(
    scores: Float[np.ndarray, "*draw layer"], constant: float | None
) -> Int[np.ndarray, "*draw"]:
    """The layer of the largest score within the fences, for None of all; ties take the lowest."""
    if constant is None:
        return np.asarray(scores.argmax(-1))
    return np.asarray(np.where(within(scores, constant), scores, -np.inf).argmax(-1))


def stability(
    per_request: Float[np.ndarray, "request layer"], constant: float | None, draws: int, seed: int
) -> Float[np.ndarray, " layer"]:
    """Share of bootstrap resamples of the requests that choose each layer.

    A resample that tells no layer from another counts for all alike.
    """
    n, layers = per_request.shape
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    totals = counts @ per_request
    decided = (totals != totals[:, :1]).any(1)
    chosen = np.bincount(choose(totals[decided], constant), minlength=layers)
    return (chosen + (~decided).sum() / layers) / draws
