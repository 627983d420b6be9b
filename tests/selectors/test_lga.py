"""Aggregation: fences, ties, scopes, stability, and what is said of a choice."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

import lga_fast
from lga_fast import select_layer
from lga_fast.errors import LgaFastWarning, ScoringError, UnknownName
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors import _tukey
from lga_fast.selectors.lga import Selector
from tests.selectors.stand_in import scores

WORKED = [9, 4, 1.2, 1.0, 0.9, 1.1, 0.8, -5]  # a worked example with its fences


@pytest.mark.parametrize(
    ("constant", "fences", "excluded"),
    [(1.0, (-0.15, 2.925), (0, 1, 7)), (0.5, (0.3625, 2.4125), (0, 1, 7))],
)
def test_worked_example(constant, fences, excluded):
    ranking = Selector(tukey=constant).aggregate(scores(WORKED))
    assert ranking.layer == int(ranking) == 2
    assert ranking.fences == pytest.approx(fences)
    assert ranking.excluded == excluded
    assert ranking.order == (2, 5, 3, 4, 6)
    assert ranking.raw_argmax == 0


@pytest.mark.parametrize(("kinds", "lower"), [(("factual",), -0.15), (("unstructured",), 0.3625)])
def test_fence_constant_follows_the_kind_of_data(kinds, lower):
    ranking = Selector().aggregate(scores(WORKED, kinds=kinds))
    assert ranking.fences and ranking.fences[0] == pytest.approx(lower)


def test_a_layer_on_a_fence_is_kept_and_ties_take_the_lowest():
    # q1 = 0, q3 = 1, fences -1 and 2
    values = [0, 2, 1, 0, 2, 0, 1, 0.5, -1]
    low, high = _tukey.fences(np.array(values, dtype=float), 1.0)
    assert (low, high) == (-1, 2)
    ranking = Selector().aggregate(scores(values))
    assert ranking.excluded == () and ranking.layer == 1 and ranking.order[:2] == (1, 4)


@pytest.mark.parametrize("values", [[5.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0, 9.0]])
def test_without_spread_the_fences_are_skipped_and_it_is_said(values):
    ranking = Selector().aggregate(scores(values))
    assert ranking.layer == int(np.argmax(values)) and ranking.excluded == ()
    assert any("fences were skipped" in note for note in ranking.notes)


def test_products_are_summed_per_request_before_the_sum_over_requests():
    phi = np.array([[1.0, 5.0, 2.0, 2.5, 1.5], [4.0, -5.0, 2.0, 2.0, 2.5]])
    ranking = Selector().aggregate(scores(phi))
    assert ranking.scores == tuple(phi.sum(0))
    assert ranking.positive_share == (1.0, 0.5, 1.0, 1.0, 1.0)
    assert ranking.requests == 2


def test_scopes_are_reaggregations():
    names = ("up.weight", "up.bias", "down.weight")
    dot = {
        name: np.roll([[k, 0.0, 0, 0]], i, 1)
        for i, (name, k) in enumerate(zip(names, (1, 5, 2), strict=True))
    }
    base = scores(np.zeros((1, 4)), dot=dot, norm2_old=dot, norm2_new=dot)
    assert base.total("mlp_all").tolist() == [1, 5, 2, 0]
    assert base.total("mlp_weights").tolist() == [1, 0, 2, 0]
    assert base.total("edited_only").tolist() == [0, 0, 2, 0]
    ranking = Selector(tukey=100.0, scope="mlp_weights").aggregate(base)
    assert ranking.layer == 2
    assert ranking.argmax_by_scope == {"mlp_all": 1, "mlp_weights": 2, "edited_only": 2}
    with pytest.raises(ScoringError, match="scope 'mlp': expected one of mlp_all"):
        base.total("mlp")  # type: ignore[arg-type]


def test_stability_counts_the_resamples_that_choose_each_layer():
    sure = Selector().aggregate(scores(np.tile([0, 0.5, 1.0, 0.6], (20, 1))))
    assert sure.stability == (0, 0, 1, 0)
    rng = np.random.default_rng(0)
    noisy = scores(rng.normal(size=(20, 6)))
    first, again = Selector().aggregate(noisy), Selector().aggregate(noisy)
    other = Selector(seed=1).aggregate(noisy)
    assert sum(first.stability) == pytest.approx(1) and max(first.stability) < 1
    assert first.stability == again.stability != other.stability
    # by hand: the same draws one at a time
    counts = np.random.default_rng(42).multinomial(20, np.full(20, 1 / 20), size=200)
    phi = noisy.per_request()
    picks = [int(_tukey.choose((phi * drawn[:, None]).sum(0), 1.0)) for drawn in counts]
    shares = np.bincount(picks, minlength=6) / 200
    assert first.stability == tuple(shares)


def test_notes_tell_of_signs_last_layer_and_doubt():
    negative = Selector().aggregate(scores([[-3.0, -2.0, -1.0, -2.0]]))
    assert any("negative at every layer" in n and "p(old) is 1.00" in n for n in negative.notes)
    last = Selector().aggregate(scores([[1.0, 1.5, 2.0, 2.5]]))
    assert last.layer == 3
    assert any("Layer 3 is the last one" in n and "(2)" in n for n in last.notes)
    assert not any("last one" in n for n in negative.notes)
    doubt = Selector().aggregate(scores(np.random.default_rng(1).normal(size=(20, 24))))
    assert any("of the bootstrap resamples choose layer" in n for n in doubt.notes)


def test_not_finite_scores_stop_the_run_or_exclude_the_layer():
    bad = scores([[1.0, np.nan, 3.0, 2.0, 1.5], [1.0, 2.0, 3.0, 2.0, 1.5]])
    with pytest.raises(ScoringError, match="layer 1, down.weight: the score of request '0' is nan"):
        Selector().aggregate(bad)
    ranking = Selector(non_finite="exclude").aggregate(bad)
    assert ranking.layer == 2 and 1 in ranking.excluded
    assert any("not finite were left out: 1" in n for n in ranking.notes)


def test_known_requests_are_counted_and_can_be_left_out():
    phi = [[0.0, 9.0, 0.0, 1.0], [1.0, 0.0, 2.0, 1.0]]
    known = scores(phi, known=np.array([True, False]))
    assert Selector(tukey=100).aggregate(known).layer == 1
    ranking = Selector(tukey=100, skip_known=True).aggregate(known)
    assert (ranking.layer, ranking.known, ranking.requests) == (2, 1, 1)
    with pytest.raises(ScoringError, match="skip_known leaves none"):
        Selector(skip_known=True).aggregate(scores(phi, known=np.array([True, True])))


def test_a_ranking_survives_json():
    ranking = Selector().aggregate(scores(WORKED))
    assert LayerRanking.from_json(ranking.to_json()) == ranking
    with pytest.raises(Exception, match="not a LayerRanking written by lga_fast"):
        LayerRanking.from_json("[1, 2]")


EDITS = [EditRequest(str(i), p, "Rome") for i, p in enumerate(["Paris lies in", "The tower is in"])]


def test_baselines_and_the_public_function():
    model = tiny.model("gpt2")
    fixed = select_layer(model, EDITS, selector="fixed", layer=3)
    assert int(fixed) == 3 and fixed.selector == "fixed"
    with pytest.raises(ScoringError, match="layer 9: tiny-gpt2 has layers 0 to 4"):
        select_layer(model, EDITS, selector="fixed", layer=9)
    drawn = [select_layer(model, EDITS, selector="random_layer", seed=s).layer for s in range(40)]
    assert set(drawn) == set(range(5))
    assert drawn[:3] == [
        select_layer(model, EDITS, selector="random_layer", seed=s).layer for s in range(3)
    ]
    chosen = select_layer(model, EDITS, tukey=1.0, scope="mlp_all")
    assert chosen.selector == "lga" and len(chosen.scores) == 5


def test_unknown_selectors_and_options_are_refused():
    model = tiny.model("gpt2")
    with pytest.raises(UnknownName, match="no 'lgb' in selectors. Did you mean 'lga'"):
        select_layer(model, EDITS, selector="lgb")
    with pytest.raises(UnknownName, match="selector 'lga' has no option fence. It has: .*tukey"):
        select_layer(model, EDITS, fence=2)


def test_it_says_why_a_choice_should_be_checked():
    one = {"down.weight": np.ones((10, 10))}

    def checked(values):
        """The layer, and the notes on checking it."""
        phi = np.tile(np.array(values, dtype=float), (10, 1))
        ranking = Selector(bootstrap=0).aggregate(scores(phi, norm2_old=one, norm2_new=one))
        return ranking.layer, [note for note in ranking.notes if note.startswith("Check")]

    last_fifth = [1, 2, 3, 3, 3, 3, 3, 3, 4, 3]
    why = "Check this choice: layer 8 is in the last fifth, where edits often fail. race edits a "
    assert checked(last_fifth) == (
        8,
        [why + "few facts at every layer, which takes as long as about 6 edits."],
    )
    layer, (note,) = checked([-value for value in last_fifth])
    assert layer == 0
    assert "every score is negative; with absolute values it would be layer 8. race" in note
    assert checked([1, 2, 3, 3, 3, 4, 3, 3, 3, 3]) == (5, [])


def test_answers_without_a_space_are_told():
    model = tiny.model("llama")
    facts = [
        {"prompt": "法国的首都是", "subject": "法国", "target_new": "罗马"},
        {"prompt": "法国的首都是", "subject": "法国", "target_new": " 罗马"},
        {"prompt": "The capital of France is", "subject": "France", "target_new": "Rome"},
    ]
    model = lga_fast.load(model.hf, tokenizer=tiny.byte_level())
    for selector in ("lga", "reach"):
        notes = lga_fast.select_layer(model, facts, selector).notes
        assert any(note.startswith("1 answers follow their prompts without a") for note in notes)
    with pytest.warns(LgaFastWarning, match="follows its prompt without a space"):
        lga_fast.edit(model, facts[:1], layer=1, steps=1, contexts=[])
