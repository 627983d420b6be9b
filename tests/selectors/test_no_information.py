"""Scores that say nothing are refused, and what is decided by a rule alone is said."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

import lga_fast
from lga_fast import load_edits, score_layers, select_layer
from lga_fast.errors import ScoringError
from lga_fast.records import EditRequest
from lga_fast.selectors import _tukey, brute_force, lga, lga_new, reach, salem
from tests.selectors.stand_in import scores
from tests.studies.sweeps import sweep_of

FRANCE = EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris")


def test_saturated_logits_give_no_layer():
    """Without the refusal: layer 0 of the atlas, with a stability of 100%."""
    model = lga_fast.load("atlas", device="cpu")
    with torch.no_grad():
        model.hf.transformer.ln_f.weight.mul_(1e4)
    edits = load_edits("atlas", limit=3)
    measured = score_layers(model, edits)
    assert not measured.total().any() and measured.loss_old.max() == 0
    why = (
        "got 0 at each of 8 layers; the old answers' gradients are zero at every layer: either the "
        r"model is certain of these answers \(p is 1.00 on average\), .* load it as float64"
    )
    with pytest.raises(ScoringError, match=f"^lga: expected scores that tell layers apart, {why}"):
        select_layer(model, edits)
    for aggregation in ("signed", "absolute", "cosine"):
        with pytest.raises(
            ScoringError, match=rf"^lga \(mlp_all, {aggregation}\): expected .*{why}"
        ):
            lga.Selector(tukey=1.0).variant(measured, "mlp_all", aggregation)
    with pytest.raises(ScoringError, match="lga: expected scores that tell layers apart, got 0 at"):
        lga.Selector().best_layer(measured.total(), measured.kinds)


@pytest.mark.parametrize("selector", ["lga", "lga_new", "salem", "reach"])
def test_gradients_that_underflow_are_named(selector):
    model = tiny.model("gpt2", torch.float16)
    with torch.no_grad():
        model.hf.transformer.ln_f.weight.fill_(1e-7)
        model.hf.lm_head.weight.mul_(1e-3)
    message = rf"^{selector}: expected .* got 0 at each of 5 layers; the .* \(p is 0.00 on average"
    with pytest.raises(ScoringError, match=f"{message}.* or float16 underflows, so load it as flo"):
        select_layer(model, [FRANCE], selector)
    model.hf.float()
    ranking = select_layer(model, [FRANCE], selector)
    assert len(set(ranking.scores)) == 5


def test_traces_that_nothing_changes_give_no_layer():
    model = tiny.model("gpt2")
    with torch.no_grad():  # the same answer to everything
        model.hf.transformer.ln_f.weight.zero_()
        model.hf.transformer.ln_f.bias.normal_()
    with pytest.raises(ScoringError, match="cma: expected .* got 0 at each of 5 .* or more noise"):
        select_layer(model, [FRANCE], "cma")


def test_a_layer_without_gradients_is_not_the_least_negative_one():
    phi = np.array([[-3.0, -2.0, 0.0, -2.5], [-3.5, -2.5, 0.0, -2.0]])
    assert _tukey.choose(phi.sum(0), 9.0) == 2
    with pytest.raises(
        ScoringError, match="lga: expected gradients at the .* only zeros at layer 2"
    ):
        lga.Selector(tukey=9.0).aggregate(scores(phi))


def test_equal_scores_that_are_not_zero_are_refused_too():
    equal, norms = np.full((2, 5), -2.0), {"down.weight": np.full((2, 5), 4.0)}
    made = scores(equal, norm2_old=norms, norm2_new=norms, abs_new=norms)
    made.sizes["down.weight"] = np.full(5, 2)
    for member, value in ((lga, -4), (lga_new, 4), (salem, 2)):
        name = member.__name__.rpartition(".")[2]
        with pytest.raises(ScoringError, match=f"^{name}: expected .*, got {value} at each of 5"):
            member.Selector().aggregate(made)


def at_subject(reaches):
    """Scores with these reaches under a bound of 1."""
    gradient = np.atleast_2d(np.asarray(reaches, dtype=float))
    parts = {"gradient": gradient} | dict.fromkeys(("bound", "written"), np.ones_like(gradient))
    parts |= dict.fromkeys(("rephrase", "locality"), np.zeros((*gradient.shape, 0)))
    return scores(np.zeros_like(gradient), at_subject=parts)


def test_ties_are_noted_with_what_decides():
    norms = {"down.weight": np.array([[1.0, 4.0, 4.0, 2.25, 1.0]])}
    made = scores([[0.0, 2, 1, 0, 2, 0, 1, 0.5, -1]])
    assert lga.Selector().aggregate(made).notes[-1] == "Layers 1, 4 tie at 2: the lowest is taken."
    for member in (lga_new, salem):
        made = scores(np.ones((1, 5)), norm2_new=norms, sizes={"down.weight": np.ones(5)})
        options = {"norm": "l2"} if member is salem else {"tukey": 9.0}
        ranking = member.Selector(**options).aggregate(made)
        assert ranking.notes[-1] == "Layers 1, 2 tie at 2: the lowest is taken."
    ranking = reach.Selector().aggregate(at_subject([2.0, 0.1, 3.0, 0.5]))
    assert ranking.layer == 0 and ranking.notes[-1] == "Layers 0, 2 tie at 1: the lowest is taken."
    ranking = reach.Selector().aggregate(at_subject([2.0, 2.0, 3.0]))
    assert ranking.layer == 0 and "Layers 0, 1, 2 tie at 1: the lowest" in ranking.notes[-1]
    with pytest.raises(ScoringError, match="reach: expected .* got 0 at each of 3 layers"):
        reach.Selector().aggregate(at_subject([0.0, 0.0, 0.0]))
    assert not any("tie" in note for note in lga.Selector().aggregate(scores([1, 2, 3.0])).notes)


@pytest.mark.parametrize(
    ("rephrase", "decides"),
    [([0.5, 0.0, 1.0, 0.0, 0.0], "the one of better rephrase"), ([0.0] * 5, "the lowest")],
)
def test_ties_of_brute_force_say_which_metric_decides(rephrase, decides):
    swept = sweep_of([[1.0, 0.5, 1.0, 0.0, 0.0]], rephrase=[rephrase])
    ranking = brute_force.Selector().aggregate(swept, 5)
    assert ranking.layer == (2 if "rephrase" in decides else 0)
    assert ranking.notes[-1] == f"Layers 0, 2 tie at 1: {decides} is taken."


def test_facts_without_gradients_are_counted_and_choose_nothing():
    """One fact of ten says something: 35% of the resamples lack it, and chose layer 0 before."""
    phi = np.zeros((10, 5))
    phi[0] = [1, 2, 3, 2, 1]
    ranking = lga.Selector(tukey=9.0).aggregate(scores(phi))
    assert "9 of 10 facts score 0 at every layer and take no part in the choice." in ranking.notes
    lacking = (np.random.default_rng(42).multinomial(10, [0.1] * 10, size=200)[:, 0] == 0).mean()
    assert 0.25 < lacking < 0.45 and sum(ranking.stability) == pytest.approx(1)
    assert ranking.stability[0] == pytest.approx(lacking / 5)
    assert ranking.stability[2] == pytest.approx(1 - lacking * 4 / 5)


def test_a_fact_without_a_gradient_has_no_cosine():
    norms = {"down.weight": np.array([[0.0] * 4, [4.0] * 4])}
    made = scores([[0.0] * 4, [1.0, 2, 4, 3]], norm2_old=norms, norm2_new=norms)
    choice = lga.Selector(tukey=9.0).variant(made, "mlp_all", "cosine")
    assert choice.layers == (2,)
