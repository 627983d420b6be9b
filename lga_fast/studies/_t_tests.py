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
        """At α = 0.05; False if nothing varies."""
        return self.p < ALPHA

    def to_json(self) -> dict[str, float | bool]:
        """Its values and its verdict."""
        return {"t": self.t, "p": self.p, "significant": self.significant}


def independent(a: Float[np.ndarray, " sample"], b: Float[np.ndarray, " sample"]) -> TTest:
    """Test of two independent samples with equal variances, as in arXiv 2602.20207."""
    moments = [(x.mean(), x.std(ddof=1), len(x)) for x in (a, b)]
    return t_test_from_moments(*moments[0], *moments[1])


def paired(a: Float[np.ndarray, " sample"], b: Float[np.ndarray, " sample"]) -> TTest:
    """Test of the differences within pairs, which measurements on the same samples allow."""
    from scipy import stats

    return _of(stats.ttest_rel, a, b)


def t_test_from_moments(
    mean1: float, sd1: float, n1: int, mean2: float, sd2: float, n2: int
) -> TTest:
    """`independent`, from published means and standard deviations (n - 1 in the denominator)."""
    from scipy import stats

    return _of(stats.ttest_ind_from_stats, mean1, sd1, n1, mean2, sd2, n2)


def _of(test, *values) -> TTest:
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # for values that do not vary
        t, p = map(float, test(*values))
    return TTest(t, p)
