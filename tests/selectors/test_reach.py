"""Reach: its parts against autograd and small edits, what they do not depend on, its choices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from both_placements import both

from lga_fast import score_layers, select_layer
from lga_fast.errors import LgaFastWarning, OptionError, ScoringError
from lga_fast.records import EditRequest, Probe
from lga_fast.scoring import batch_layout
from lga_fast.selectors.reach import Selector
from lga_fast.tokens import target_row, token_at
from tests.selectors.stand_in import scores as stand_in

pytestmark = pytest.mark.usefixtures("keep_double")

FRANCE = "The capital of France is"
PROBES = (
    Probe("rephrase", "rephrase", "France has the capital", "New York"),
    Probe("locality", "near", "The capital of Italy is", "Rome, as everyone knows"),
    Probe("locality", "far", "The book is long, as", "everyone knows"),
)
EDITS = [
    EditRequest("a", FRANCE, "New York", "France", (15, 21), "Paris", PROBES),
    EditRequest("b", "The tower of Ann Lee stands in", "Rome", "Ann Lee", (13, 20)),
    EditRequest("c", "Paris", "unbelievable answer"),  # without a subject
]


def norms(model, request) -> np.ndarray:
    """‖∂ℓ/∂h‖ at the subject's last token [layer], by autograd through an added zero."""
    row = target_row(model.tokenizer, request.prompt, request.target_new)
    at = token_at(
        model.tokenizer, request.prompt, request.subject_span[1] - 1, row.ids[: row.start]
    )
    changes, hooks = [], []

    def hook(module, args, output):
        changes.append(torch.zeros_like(output, requires_grad=True))
        return output + changes[-1]

    for layer in range(model.layers):
        hooks.append(model.matrix(layer, model.family.edited).register_forward_hook(hook))
    with model.frozen():
        logits = model.hf(torch.tensor([row.ids]), use_cache=False).logits[0]
        torch.nn.functional.cross_entropy(
            logits[row.start - 1 : -1], torch.tensor(row.target)
        ).backward()
    for one in hooks:
        one.remove()
    return np.array([change.grad.flatten(0, -2)[at].norm() for change in changes])


def slopes(model, request, size=1e-6) -> np.ndarray:
    """What edits by a step of length 1 do [layer probe], from two small ones that are made."""
    row = target_row(model.tokenizer, request.prompt, request.target_new)
    at = token_at(
        model.tokenizer, request.prompt, request.subject_span[1] - 1, row.ids[: row.start]
    )
    answers = [(p.prompt, "New York" if p.kind == "rephrase" else p.answer) for p in request.probes]
    probes = [target_row(model.tokenizer, *answer) for answer in answers]
    loss = torch.nn.functional.cross_entropy
    effects = []
    for layer in range(model.layers):
        matrix, seen = model.matrix(layer, model.family.edited), {}

        def hook(module, args, output, seen=seen):
            seen["key"] = args[0].flatten(0, -2)[at].detach()
            seen["change"] = torch.zeros_like(output, requires_grad=True)
            return output + seen["change"]

        one = matrix.register_forward_hook(hook)
        with model.frozen():
            logits = model.hf(torch.tensor([row.ids]), use_cache=False).logits[0]
            loss(logits[row.start - 1 : -1], torch.tensor(row.target)).backward()
        one.remove()
        g, k = seen["change"].grad.flatten(0, -2)[at], seen["key"]
        update = torch.outer(-g / g.norm().clamp(min=1e-30), k / k.dot(k))  # the last layer's: 0
        weight = matrix.weight
        update = update if weight.shape == update.shape else update.T
        losses = []
        for sign in (1, -1):
            with torch.no_grad(), model.frozen():
                weight.add_(sign * size * update)
                at_probes = [model.hf(torch.tensor([p.ids])).logits[0] for p in probes]
                weight.sub_(sign * size * update)
            pairs = zip(at_probes, probes, strict=True)
            losses.append([loss(x[p.start - 1 : -1], torch.tensor(p.target)) for x, p in pairs])
        effects.append((torch.tensor(losses[1]) - torch.tensor(losses[0])) / (2 * size))
        relative = effects[-1][0] / loss(
            at_probes[0][probes[0].start - 1 : -1], torch.tensor(probes[0].target)
        )
        effects[-1][0] = relative
    return torch.stack(effects).numpy()


@pytest.mark.parametrize("old", ["model", None])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "qwen3"])
def test_what_it_forecasts_of_probes_is_what_small_edits_do(family, old):
    model = tiny.model(family, sliding_window=64)
    at_subject = score_layers(model, EDITS, old=old, at_subject=True).at_subject
    want = slopes(model, EDITS[0])
    np.testing.assert_allclose(at_subject["rephrase"][0, :, 0], want[:, 0], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(at_subject["locality"][0, :, :2], want[:, 1:], rtol=1e-4, atol=1e-9)
    assert np.isnan(at_subject["rephrase"][0, :, 1]).all()
    for name in ("rephrase", "locality"):
        assert np.isnan(at_subject[name][1:]).all()  # no probes, no subject


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "qwen3", "opt"])
def test_norms_equal_autograd(family, packed, monkeypatch):
    """In LGA's pass, whichever way its rows are laid out, and in one without old answers."""
    model = tiny.model(family, sliding_window=64)
    monkeypatch.setattr(batch_layout, "packing_pays", lambda pair: packed)
    for old in ("model", "ground_truth", None):
        at_subject = score_layers(model, EDITS, old=old, at_subject=True).at_subject
        got = at_subject["gradient"]
        for i in (0, 1):
            np.testing.assert_allclose(got[i], norms(model, EDITS[i]), rtol=1e-8)
        assert np.isnan(got[2]).all()
    assert not score_layers(model, EDITS, old=None).at_subject


def test_streamed_weights_give_the_same_bits(tmp_path):
    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    want, got = (score_layers(m, EDITS, at_subject=True).at_subject for m in (resident, streamed))
    for name in want:
        assert np.array_equal(want[name], got[name], equal_nan=True)
    assert np.array_equal(
        select_layer(resident, EDITS, "reach").scores, select_layer(streamed, EDITS, "reach").scores
    )


def test_scaling_up_and_down_projections_against_each_other_changes_nothing():
    model = tiny.model("llama")
    before = select_layer(model, EDITS, "reach", clamp=0.1)
    inner = select_layer(model, EDITS, "lga")
    with torch.no_grad():
        model.matrix(2, "up").weight.mul_(8)
        model.matrix(2, "down").weight.div_(8)
    after = select_layer(model, EDITS, "reach", clamp=0.1)
    np.testing.assert_allclose(after.scores, before.scores, rtol=1e-9)
    assert not np.allclose(select_layer(model, EDITS, "lga").scores[2], inner.scores[2])


def test_the_clamp_is_the_editors_where_none_is_given():
    model = tiny.model("gpt2")
    clamp = [select_layer(model, EDITS, "reach").provenance["configuration"]["config"]["clamp"]]
    model.editing = {"r_rome": {"clamp": 0.01}}
    ranking = select_layer(model, EDITS, "reach")
    clamp.append(ranking.provenance["configuration"]["config"]["clamp"])
    assert clamp == [4.0, 0.01] and ranking.requests == 2
    rows = score_layers(model, EDITS, old=None, at_subject=True).provenance["sequence_forwards"]
    assert ranking.provenance["sequence_forwards"] == rows + 2 * 21  # two subjects, 21 contexts
    wider = select_layer(model, EDITS, "reach", clamp=0.02)
    prompt = [one.scores[0] for one in (ranking, wider)]
    assert prompt[0] < prompt[1]
    assert any("subject in their prompt: 1 facts" in note for note in ranking.notes)


def test_an_editor_that_the_model_cannot_have_is_refused_before_the_pass(monkeypatch):
    model = tiny.model("gpt2")
    model.editing = {"r_rome": {"clamp": -1}}
    monkeypatch.setattr(model.hf, "forward", lambda **inputs: pytest.fail("work was done"))
    with pytest.raises(OptionError, match="model: clamp"):
        select_layer(model, EDITS, "reach")


def test_an_unknown_key_of_the_config_is_said_once():
    with pytest.warns(LgaFastWarning, match="unknown keys are ignored: clampp") as said:
        select_layer(tiny.model("gpt2"), EDITS, "reach", config={"clampp": 3, "contexts": []})
    assert sum("clampp" in str(one.message) for one in said) == 1


def found(bound, rephrase=(), locality=(), written=1.0):
    """What is known of so many facts, with gradients of 1 [request layer ...]."""
    bound = np.array(bound)
    none = np.full((*bound.shape, 0), np.nan)
    at_subject = {"bound": bound, "gradient": np.where(np.isnan(bound), np.nan, 1.0)}
    at_subject["written"] = np.broadcast_to(written, bound.shape)
    at_subject |= {"rephrase": np.array(rephrase) if len(rephrase) else none}
    at_subject |= {"locality": np.array(locality) if len(locality) else none}
    return stand_in(np.zeros(bound.shape), at_subject=at_subject)


def test_the_share_of_the_loss_is_capped_and_the_largest_mean_chosen():
    made = found([[9.0, 0.5, 0.96, 0.1, np.nan], [9.0, 0.7, 0.98, 0.1, np.nan]])
    ranking = Selector().aggregate(made)
    assert ranking.order == (0, 2, 1, 3) and ranking.excluded == (4,)
    np.testing.assert_allclose(ranking.scores, [1, 0.6, 0.97, 0.1, 0])
    twice = found(2 * made.at_subject["bound"])
    twice = replace(twice, loss_new=np.full(2, 2.0))
    np.testing.assert_allclose(Selector().aggregate(twice).scores, ranking.scores)
    assert ranking.stability[0] == pytest.approx(1) and sum(ranking.stability) == pytest.approx(1)


def test_paraphrases_and_unrelated_answers_are_parts_of_the_score():
    nan = np.nan
    rephrase = [[[0.5, nan], [4.0, nan], [-1.0, nan]], [[nan, nan]] * 3]  # none of the second fact
    locality = [[[0.0, nan], [np.log(4), 0.0], [nan, nan]], [[np.log(2), -np.log(2)]] * 3]
    locality[0][2] = [0.0, nan]
    made = found([[0.5, 2.0, 1.0], [1.0, 1.0, 1.0]], rephrase, locality)
    made.at_subject["locality"][0, :, 1] = nan
    scores = Selector().aggregate(made).scores
    first = [(0.5 + 0.25 + 1) / 3, (1 + 1 + 0.25) / 3, (1 + 0 + 1) / 3]
    np.testing.assert_allclose(scores, [(x + (1 + 0.5) / 2) / 2 for x in first])


def test_what_is_not_written_has_no_effect_and_what_is_too_much_is_of_no_more_use():
    written = np.array([[0.5, 1.0, 2.0]])
    none, much = [[[np.nan] * 2] * 3], [[[np.log(4), np.nan]] * 3]
    made = found([[9.0] * 3], none, much, written)  # steps of 0.5, 1, 2; losses of 1
    scores = Selector().aggregate(made).scores
    np.testing.assert_allclose(scores, [(0.5 + 1 / 2) / 2, (1 + 1 / 4) / 2, (1 + 1 / 16) / 2])


def test_what_is_not_finite_is_refused_and_what_is_certain_left_out():
    made = found([[0.5, 0.4, np.nan]] * 3)
    certain = replace(made, loss_new=np.array([1.0, 0.0, 1.0]))
    ranking = Selector().aggregate(certain)
    assert ranking.requests == 2 and ranking.excluded == (2,)
    assert any("certain of their new answer: 1 facts" in note for note in ranking.notes)
    bad = found([[0.5, 0.4, np.nan]] * 3)
    bad.at_subject["gradient"][2, 1] = np.nan  # it overflowed, at a layer that can be edited
    with pytest.raises(ScoringError, match="reach, layer 1: the score of request '2' is nan"):
        Selector().aggregate(bad)
    bad = found([[0.5, 0.4, np.nan]] * 3, locality=[[[0.1], [0.2], [np.nan]]] * 3)
    bad.at_subject["locality"][1, 0] = np.nan
    with pytest.raises(ScoringError, match="reach, layer 0: the score of request '1' is nan"):
        Selector().aggregate(bad)
    with pytest.raises(ScoringError, match="layer 0: the score of request '1' is nan"):
        Selector().aggregate(replace(made, loss_new=np.array([1.0, np.nan, 1.0])))


def test_facts_without_a_subject_are_refused():
    with pytest.raises(ScoringError, match="none of 1 requests has its subject in its prompt"):
        select_layer(tiny.model("gpt2"), EDITS[2:], "reach")
