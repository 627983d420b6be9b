"""Student's t-tests of the best layer of every sample against one layer for all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ALPHA = 0.05


@dataclass(frozen=True)
class TTest:
    """A two-sided test; t and p are NaN where nothing varies."""

    t: float
    p: float

    @property
    def significant(self) -> bool:
        """At α = 0.05; what cannot be tested is not."""
        return self.p < ALPHA


def independent(a: Float[np.ndarray, " sample"], b: Float[np.ndarray, " sample"]) -> TTest:
    """Of two independent samples with equal variances, as arXiv 2602.20207 tests."""
    from scipy import stats

    return _of(stats.ttest_ind, a, b)


def paired(a: Float[np.ndarray, " sample"], b: Float[np.ndarray, " sample"]) -> TTest:
    """Of the differences within pairs, which is what the same samples allow."""
    from scipy import stats

    return _of(stats.ttest_rel, a, b)


def t_test_from_moments(
    mean1: float, sd1: float, n1: int, mean2: float, sd2: float, n2: int
) -> TTest:
    """`independent`, from means and standard deviations (n - 1 in the denominator) of a table."""
    from scipy import stats

    return _of(stats.ttest_ind_from_stats, mean1, sd1, n1, mean2, sd2, n2)


def _of(test, *values) -> TTest:
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of values that do not vary
        t, p = map(float, test(*values))
    return TTest(t, p)
