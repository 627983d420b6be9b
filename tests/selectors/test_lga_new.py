"""LGA(K'): norms of the new answers' gradients, fenced like LGA."""

from __future__ import annotations

import numpy as np
import pytest

from lga_fast.errors import ScoringError
from lga_fast.selectors.lga_new import Selector
from tests.selectors.stand_in import scores


def test_norms_are_taken_per_request_over_the_whole_scope():
    norm2 = {
        "up.weight": np.array([[9.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]]),
        "up.bias": np.array([[7.0, 0.0, 0.0, 0.0], [0.0, 25.0, 0.0, 0.0]]),
        "down.weight": np.array([[0.0, 1.0, 3.0, 3.0], [4.0, 11.0, 3.0, 4.0]]),
    }
    made = scores(np.full((2, 4), np.nan), dot=norm2, norm2_new=norm2)
    ranking = Selector(tukey=100.0).aggregate(made)
    assert ranking.scores == (4 + 2, 1 + 6, 2 + 2, 2 + 2)
    assert (ranking.layer, ranking.selector) == (1, "lga_new")
    weights = Selector(tukey=100.0, scope="mlp_weights").aggregate(made)
    assert weights.scores == pytest.approx((3 + 2, 1 + 11**0.5, 4, 4))
    assert weights.layer == 0 and ranking.argmax_by_scope["mlp_weights"] == 0


def test_it_is_fenced_like_lga():
    values = np.array([9, 4, 1.2, 1.0, 0.9, 1.1, 0.8, 0.0]) ** 2
    ranking = Selector().aggregate(scores(values, norm2_new={"down.weight": values[None]}))
    assert ranking.excluded == (0, 1) and ranking.layer == 2 and ranking.raw_argmax == 0


def test_a_norm_that_is_not_finite_is_named():
    bad = {"down.weight": np.array([[1.0, np.inf, 1.0, 2.0]])}
    with pytest.raises(ScoringError, match="layer 1, down.weight: the score of request '0' is inf"):
        Selector().aggregate(scores(np.zeros((1, 4)), norm2_new=bad))
