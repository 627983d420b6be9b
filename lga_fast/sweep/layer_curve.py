"""How well layers serve, as a curve over depth fitted to few edits, with its uncertainty."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_LENGTHS = (1.0, 3.0, 9.0)  # over which the curve changes, in layers
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)  # of the variance: the curve's, and the noise's
_DRAWS = 1000


@dataclass(frozen=True)
class LayerCurve:
    """A normal posterior of every layer's mean over facts, in the order of `fit`'s layers."""

    mean: Float[np.ndarray, " layer"]
    covariance: Float[np.ndarray, "layer layer"]

    def probability_within(self, place: int, tolerance: float, seed: int) -> float:
        """Probability that no mean is over the one at `place` by more than `tolerance`."""
        random = np.random.default_rng(seed)
        drawn = random.multivariate_normal(self.mean, self.covariance, _DRAWS, method="eigh")
        return float((drawn[:, place] >= drawn.max(1) - tolerance).mean())


def fit(values: Mapping[int, Float[np.ndarray, " fact"]], layers: Sequence[int]) -> LayerCurve:
    """Fit value = level + fact + curve(layer) + noise to values at some of the layers.

    A Gaussian process (Rasmussen and Williams 2006, §2.2, §5.4.1): facts and noise are independent;
    layers d apart have the covariance exp(-d / length), whose paths may jump, as the use of layers
    does where editing stops to work. Lengths and shares of variance are those of a small grid that
    make the values likeliest.

    Args:
        values: by layer, of the first facts; layers may have seen different numbers of them.
        layers: of which the curve is wanted.
    """
    observed = np.concatenate([values[layer] for layer in values])
    layer = np.repeat([*values], [len(column) for column in values.values()])
    fact = np.concatenate([np.arange(len(column)) for column in values.values()])
    level, variance = observed.mean(), observed.var()
    if variance < 1e-12:  # all alike
        return LayerCurve(np.full(len(layers), level), np.zeros((len(layers),) * 2))
    apart = np.abs(layer[:, None] - layer)
    same_fact, noise = fact[:, None] == fact, np.eye(len(fact))
    centred = (observed - level) / variance**0.5
    best = -np.inf
    for length, curve, noisy in itertools.product(_LENGTHS, _SHARES, _SHARES):
        if curve + noisy >= 1:
            continue
        kernel = curve * np.exp(-apart / length)
        # The level itself is uncertain by as much as all values vary: the last term.
        lower = np.linalg.cholesky(
            kernel + (1 - curve - noisy) * same_fact + noisy * noise + np.ones_like(kernel)
        )
        white = np.linalg.solve(lower, centred)
        likelihood = -0.5 * white @ white - np.log(np.diag(lower)).sum()
        if likelihood > best:
            best, fitted = likelihood, (length, curve, lower, white)
    length, curve, lower, white = fitted
    every = np.asarray(layers)
    between = np.linalg.solve(lower, curve * np.exp(-np.abs(layer[:, None] - every) / length))
    prior = curve * np.exp(-np.abs(every[:, None] - every) / length)
    return LayerCurve(
        level + variance**0.5 * (between.T @ white), variance * (prior - between.T @ between)
    )
