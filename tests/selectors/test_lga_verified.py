"""lga_verified: who is checked, by how many edits, and what decides."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny

from lga_fast import select_layer
from lga_fast.errors import ScoringError
from lga_fast.records import LayerRanking
from lga_fast.selectors import lga, lga_verified
from lga_fast.selectors.lga_verified import candidates
from lga_fast.sweep.run import sweep
from lga_fast.sweep.successive_halving import better_first, halve
from tests.selectors.stand_in import scores
from tests.studies.facts import CHEAP, NO_SUBJECT, REQUESTS


def ranking(values, tukey=1.0) -> LayerRanking:
    return lga.Selector(tukey=tukey).aggregate(scores([values]))


# q1 1, q3 3, so the fences are -1 and 5, and half of κ·iqr beyond them is -2 and 6
VALUES = [-2.0, 5.5, 1.0, 3.0, -2.1, 1.0, 2.0, 3.0, 6.1]


def test_candidates_are_the_best_and_the_excluded():
    ranked = ranking(VALUES)
    assert ranked.excluded == (0, 1, 4, 8) and ranked.order == (3, 7, 6, 2, 5)
    assert candidates(ranked, 3, 0.5) == [3, 7, 6, 1, 0]
    assert candidates(ranked, 9, 0) == [3, 7, 6, 2, 5]
    assert candidates(ranked, 1, None) == [3, 1, 0, 4]  # the last layer never is one
    half = ranking(VALUES, tukey=0.5)  # fences 0 and 4, κ·iqr is 1
    assert candidates(half, 1, 1.0) == [3] and candidates(half, 1, 1.5) == [3, 1]


def test_the_last_layer_is_a_candidate_only_where_it_is_alone():
    assert candidates(ranking([0.0, 1.0, 5.0]), 1, 0.5) == [1]
    assert candidates(ranking([5.0]), 5, 0.5) == [0]


class Edits:
    """Measured values from a table [layer fact] of rewrite, and what was asked for."""

    def __init__(self, rewrite, rephrase=None, locality=None):
        rewrite = np.array(rewrite, dtype=float)
        empty = np.full_like(rewrite, np.nan)
        self.values = np.array(
            [rewrite, *(empty if v is None else np.array(v) for v in (rephrase, locality))]
        )
        self.asked = []

    def __call__(self, layers, at):
        self.asked += [(layer, len(at)) for layer in layers]
        return {layer: self.values[:, layer, at.start : at.stop] for layer in layers}

    @property
    def count(self):
        return sum(n for _, n in self.asked)


def test_halving_spends_what_it_may_and_sees_more_facts_of_the_better():
    edits = Edits([[0.0] * 9, [1.0] * 9, [0.0] * 9, [1.0] + [0.0] * 8, [1.0, 0.0] + [1.0] * 7])
    order, rounds = halve([0, 1, 2, 3, 4], 9, 19, edits)
    assert [(r.facts, len(r.layers)) for r in rounds] == [(1, 5), (3, 3), (7, 2)]
    assert edits.count == 5 + 3 * 2 + 2 * 4 == 19
    assert order == [1, 4, 3, 0, 2]
    assert rounds[1].to_dict() == {
        "facts": 3,
        "layers": [1, 4, 3],
        "rewrite": pytest.approx([1, 2 / 3, 1 / 3]),
        "rephrase": [None] * 3,
        "locality": [None] * 3,
    }


def test_halving_stops_where_the_facts_end():
    edits = Edits(np.eye(4)[:, :2])
    order, rounds = halve([3, 1, 0, 2], 2, 1000, edits)
    assert order == [1, 0, 3, 2] and edits.count == 8 and [r.facts for r in rounds] == [2]


def test_layers_within_a_standard_error_tie_and_the_combined_score_decides():
    rewrite = np.array(
        [[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0.5], [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]]
    )
    rephrase = np.array([[0.1] * 8, [0.2] * 8, [0.9] * 8])
    locality = np.array([[0.5] * 8, [0.5] * 8, [0.5] * 8])
    edits = Edits(rewrite, rephrase, locality)
    values = {layer: edits.values[:, layer] for layer in range(3)}
    # layer 1 loses 0.0625 with the same standard error; layer 2 loses 0.25, its error is 0.094
    assert better_first([0, 1, 2], values) == [1, 0, 2]
    assert better_first([2, 1], values) == [1, 2]
    one = {layer: found[:, :1] for layer, found in values.items()}
    assert better_first([0, 1, 2], one) == [2, 1, 0]


def test_what_ties_in_all_keeps_the_order_of_the_candidates():
    assert halve([2, 0, 3, 1], 8, 100, Edits(np.ones((4, 8))))[0] == [2, 0, 3, 1]


@pytest.mark.parametrize("budget", range(12))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_budget_is_exceeded(budget, count):
    edits = Edits(np.random.default_rng(0).random((5, 10)))
    order, rounds = halve(list(range(count)), 10, budget, edits)
    assert edits.count <= budget
    assert sorted(order) == list(range(len(order)))
    assert bool(rounds) == (min(count, budget) > 1) and (rounds or order == [0])


def options(tmp_path, **more):
    config = tmp_path / "cheap.json"
    config.write_text(json.dumps(CHEAP))
    return {"config": str(config), **more}


def test_what_it_measures_is_what_a_sweep_without_contexts_measures(tmp_path):
    model = tiny.model("gpt2")
    found = sweep(model, REQUESTS, **CHEAP | {"contexts": ()})
    requests = [NO_SUBJECT, *REQUESTS]
    made = select_layer(model, requests, "lga_verified", **options(tmp_path, share=0.6, k=3))
    ranked = lga.Selector().rank(model, requests)
    assert made.provenance["candidates"] == candidates(ranked, 3, None)
    for one in made.provenance["rounds"]:
        for place, layer in enumerate(one["layers"]):
            seen = found.acc["locality"][: one["facts"], layer]
            assert one["locality"][place] == pytest.approx(np.nanmean(seen))
    assert 0 < made.provenance["edits"] <= 0.6 * 20 * 4 / 3  # CHEAP has two contexts
    assert made.provenance["lga"]["layer"] == ranked.layer
    assert made.layer == made.order[0] != 4 and 4 in made.excluded
    assert "brute force would make 20" in made.notes[0]
    forwards = ranked.provenance["sequence_forwards"]
    # the bare prompt's row and the KL's, four forwards with three backwards
    assert made.provenance["sequence_forwards"] == forwards + 14 * made.provenance["edits"]


def test_too_few_facts_for_a_check_leave_the_choice_to_lga(tmp_path):
    model = tiny.model("gpt2")
    made = select_layer(model, REQUESTS, "lga_verified", **options(tmp_path))
    ranked = lga.Selector().rank(model, REQUESTS)
    assert made.layer == next(layer for layer in ranked.order if layer != 4)
    assert made.notes[0].startswith("Nothing was checked: ")
    assert made.provenance["edits"] == 0 and set(made.scores) == {0}
    with pytest.raises(ScoringError, match="none of 1 requests has its subject in its prompt"):
        lga_verified.Selector().rank(model, [NO_SUBJECT])
