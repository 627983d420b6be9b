"""Successive halving over layers: who goes on, on how many facts, for how many edits."""

from __future__ import annotations

import numpy as np
import pytest

from lga_fast.sweep.successive_halving import VALUES, halve, score


class Edits:
    """Values of edits whose rewrite accuracy is in a table [layer fact]; what was asked for."""

    def __init__(self, rewrite):
        self.rewrite = np.array(rewrite, dtype=float)
        self.asked = []

    def __call__(self, layers, places):
        self.asked += [(layer, len(places)) for layer in layers]
        return {layer: self.values(layer)[:, places.start : places.stop] for layer in layers}

    def values(self, layer):
        rows = np.full((len(VALUES), self.rewrite.shape[1]), np.nan)
        rows[0], rows[3] = self.rewrite[layer], 0
        return rows

    @property
    def count(self):
        return sum(n for _, n in self.asked)


def every_round(layers, facts, budget, edits):
    """The values at the end, and the rounds."""
    rounds = list(halve(layers, facts, budget, edits))
    return rounds[-1][1], [one for one, _ in rounds]


def test_the_better_half_sees_more_facts():
    edits = Edits([[0.0] * 9, [1.0] * 9, [0.0] * 9, [1.0] + [0.0] * 8, [1.0, 0.0] + [1.0] * 7])
    values, rounds = every_round(range(5), 9, 19, edits)
    assert [(one.facts, one.layers) for one in rounds] == [
        (2, (1, 3, 4, 0, 2)),
        (3, (1, 4, 3)),
        (6, (1, 4)),
    ]
    assert edits.count == 5 * 2 + 3 + 2 * 3 == 19
    assert {layer: column.shape[1] for layer, column in values.items()} == {
        **{0: 2, 1: 6, 2: 2},
        **{3: 3, 4: 6},
    }
    assert rounds[1].means["rewrite"] == pytest.approx([1, 2 / 3, 1 / 3])
    assert rounds[1].means["score"] == pytest.approx([1, 5 / 6, 2 / 3])
    assert rounds[1].means["locality"] == [None] * 3


def test_it_ends_with_the_facts_or_where_nobody_asks_on():
    edits = Edits(np.eye(4)[:, :2])
    _, rounds = every_round(range(4), 2, 1000, edits)
    assert [one.facts for one in rounds] == [2] and edits.count == 8
    edits = Edits(np.eye(4))
    one, _ = next(halve(range(4), 4, 8, edits))
    assert one.facts == 2 and edits.count == 8


def test_equal_layers_keep_their_order():
    _, rounds = every_round([2, 0, 3, 1], 8, 20, Edits(np.ones((4, 8))))
    assert rounds[0].layers == (2, 0, 3, 1) and rounds[-1].layers == (2, 0)


@pytest.mark.parametrize("budget", range(12))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_only_the_first_round_may_exceed_the_budget(budget, count):
    edits = Edits(np.random.default_rng(0).random((5, 10)))
    _, rounds = every_round(range(count), 10, budget, edits)
    assert edits.count <= max(budget, count) and rounds[0].facts >= 1


def test_half_of_the_score_is_accuracy_and_half_what_probabilities_there_are():
    rows = np.log([[0.5, 0.5], [0.25, 1], [0.75, 1]])
    values = np.array([[1, 0], [0, 0], [1, 1], *rows])
    assert score(values) == pytest.approx([(1 + 0.5) / 2, (0 + 2.5 / 3) / 2])
    values[4:] = np.nan
    assert score(values) == pytest.approx([(1 + 0.5) / 2, (0 + 0.5) / 2])
