"""Student's t-tests of the golden-layer study."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lga_fast.studies._t_tests import independent, paired, t_test_from_moments

RNG = np.random.default_rng(3)
BEST = RNG.normal(0.9, 0.02, 40)
ONE = RNG.normal(0.8, 0.3, 25)


def test_samples_and_their_moments_give_the_same_test():
    """Two-sided, and with one variance for both: Welch's test finds another p here."""
    found = independent(BEST, ONE)
    pooled = (39 * BEST.var(ddof=1) + 24 * ONE.var(ddof=1)) / 63
    assert found.t == pytest.approx(
        (BEST.mean() - ONE.mean()) / math.sqrt(pooled / 40 + pooled / 25)
    )
    moments = [f(x) for x in (BEST, ONE) for f in (np.mean, lambda x: x.std(ddof=1), len)]
    of_table = t_test_from_moments(*moments)
    assert (of_table.t, of_table.p) == pytest.approx((found.t, found.p))
    turned = independent(ONE, BEST)
    assert (turned.t, turned.p) == pytest.approx((-found.t, found.p))


@pytest.mark.parametrize(("mean", "significant"), [(0.9, False), (0.8913, False), (0.8912, True)])
def test_significance_begins_where_p_falls_below_a_twentieth(mean, significant):
    """By hand: at 2·1000 - 2 degrees of freedom t = 1.9612 has p = 0.05."""
    found = t_test_from_moments(0.9, 0.1, 1000, mean, 0.1, 1000)
    assert found.t == pytest.approx((0.9 - mean) / (0.1 * math.sqrt(2 / 1000)), abs=1e-12)
    assert found.significant is significant


def test_what_does_not_vary_is_not_significant():
    for found in (
        t_test_from_moments(1.0, 0.0, 300, 1.0, 0.0, 300),
        independent(np.ones(5), np.ones(5)),
        paired(np.ones(5), np.ones(5)),
    ):
        assert math.isnan(found.p) and not found.significant


def test_pairs_show_what_samples_hide():
    one = RNG.uniform(0, 1, 200)
    best = np.minimum(one + 0.01 + RNG.uniform(0, 0.01, 200), 1)
    assert not independent(best, one).significant and paired(best, one).significant
