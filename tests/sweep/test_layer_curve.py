"""The curve over depth against what it was drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from lga_fast.sweep import layer_curve
from lga_fast.sweep.layer_curve import LayerCurve

LAYERS = 12
TRUE = np.where(np.arange(LAYERS) < 8, 0.8, 0.3)  # a cliff, as where editing stops to work


def seen(seed, counts, noise=0.1):
    """Values of the first facts at each layer: the curve, an effect of the fact, and noise."""
    random = np.random.default_rng(seed)
    facts = random.normal(0, 0.2, max(counts))
    table = TRUE[:, None] + facts + random.normal(0, noise, (LAYERS, max(counts)))
    return {layer: table[layer, :n] for layer, n in enumerate(counts)}


def test_it_is_the_posterior_of_the_model_it_states():
    # With one length and one pair of shares it must be the textbook's: Rasmussen and Williams 2.23.
    values = {0: np.array([0.2, 0.9]), 2: np.array([0.4]), 3: np.array([0.1, 0.5, 0.3])}
    curve = layer_curve.fit(values, range(4))
    observed = np.concatenate(list(values.values()))
    layer, fact = np.array([0, 0, 2, 3, 3, 3]), np.array([0, 1, 0, 0, 1, 2])

    def kernel(length, share, noise):
        depth = share * np.exp(-np.abs(layer[:, None] - layer) / length)
        facts = (1 - share - noise) * (fact[:, None] == fact)
        return observed.var() * (depth + facts + noise * np.eye(6) + 1)

    def likelihood(parameters):
        covariance, y = kernel(*parameters), observed - observed.mean()
        return -y @ np.linalg.inv(covariance) @ y - np.linalg.slogdet(covariance)[1]

    grid = [
        (length, share, noise)
        for length in layer_curve._LENGTHS
        for share in layer_curve._SHARES
        for noise in layer_curve._SHARES
    ]
    best = max(grid, key=likelihood)
    length, share, _ = best
    cross = share * np.exp(-np.abs(np.arange(4)[:, None] - layer) / length) * observed.var()
    weights = cross @ np.linalg.inv(kernel(*best))
    expected = observed.mean() + weights @ (observed - observed.mean())
    assert curve.mean == pytest.approx(expected, abs=1e-9)
    assert curve.covariance.diagonal() == pytest.approx(
        observed.var() * share - (weights * cross).sum(1), abs=1e-9
    )


def test_facts_that_only_some_layers_saw_do_not_mislead():
    # Later facts are easy: a plain mean over what each layer saw would prefer layers 6 and 7.
    values = {layer: TRUE[layer] + np.array([0.0, 0.0, 0.0]) for layer in range(LAYERS)}
    for layer in (6, 7):
        values[layer] = TRUE[layer] + np.array([0.0, 0.0, 0.0, 0.2, 0.2, 0.2])
    curve = layer_curve.fit(values, range(LAYERS))
    assert np.ptp(curve.mean[:8]) < 0.01 and curve.mean[:8].min() > curve.mean[8:].max() + 0.3


@pytest.mark.parametrize("seed", range(5))
def test_the_cliff_is_seen_and_equal_layers_are_said_to_be_equal(seed):
    curve = layer_curve.fit(seen(seed, [4] * 6 + [16] * 2 + [4] * 4), range(LAYERS))
    best = int(np.argmax(curve.mean))
    assert best < 8 and curve.mean[:8].min() > curve.mean[8:].max()
    assert curve.probability_within(best, 0.2, seed=0) > 0.95
    assert curve.probability_within(11, 0.2, seed=0) < 0.01


def test_probability_within_is_what_a_normal_says():
    curve = LayerCurve(np.array([0.0, 0.1]), np.diag([0.01, 0.0]))
    # layer 0 lacks at most 0.05 where it is above 0.05: half a standard deviation
    assert curve.probability_within(0, 0.05, seed=0) == pytest.approx(0.309, abs=0.04)
    assert curve.probability_within(1, 0.9, seed=0) == 1


def test_values_that_are_all_alike_make_a_flat_curve():
    curve = layer_curve.fit({0: np.ones(2), 3: np.ones(1)}, range(4))
    assert curve.mean.tolist() == [1] * 4 and curve.probability_within(2, 0.0, seed=0) == 1
