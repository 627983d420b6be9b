"""ROME and R-ROME: what they promise holds, and the loss is the paper's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

import lga_fast
from lga_fast.editors import (
    _moments,
    _rank_one,
    _value_solver,
    r_rome,
    rome,
    validate_requests,
)
from lga_fast.editors._value_problem import answer_row
from lga_fast.errors import EditError, LgaFastWarning, UnknownName
from lga_fast.forward.decoding import greedy
from lga_fast.records import EditRequest
from tests.editors.value_cases import read_keys

pytestmark = pytest.mark.usefixtures("keep_double")

REQUEST = EditRequest("a", "The tower of Paris stands in", "New York", "Paris", (13, 18))
OTHER = EditRequest("b", "The capital of France is", "Rome", "France", (15, 21))
CONTEXTS = ("", "The book. ", "Nobody knows that. ")
FAMILIES = ["gpt2", "llama", "gemma3", "qwen3"]
LAYER = 2


def weight(model, layer=LAYER):
    """The edited matrix as [d_out d_in], and its bias or 0."""
    module = model.matrix(layer, "down")
    stored = module.weight.detach()
    in_out = model.family.orientation == "in_out"
    return stored.T if in_out else stored, 0 if module.bias is None else module.bias.detach()


def rows(model, request=REQUEST):
    """Ids up to the subject's last token, by context."""
    found = [answer_row(model, context, request) for context in CONTEXTS]
    return [row.ids[: at + 1] for row, at in found]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("held", [rome.bare, r_rome.mean])
def test_the_new_value_comes_out_for_the_promised_key(family, held):
    """(W + ΔW) k + b = v*, with the bare prompt's key or the mean key (float64)."""
    model = tiny.model(family)
    how = _value_solver.Optimisation(steps=4, weight_decay=1e-3)
    (value,) = _value_solver.optimise(model, LAYER, [REQUEST], CONTEXTS, how)
    keys, outputs = read_keys(model, LAYER, rows(model))
    torch.testing.assert_close(value.keys, keys, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(value.outputs, outputs, rtol=1e-10, atol=1e-12)
    left, right = _rank_one.update(value, _rank_one.direction(keys), held)
    matrix, bias = weight(model)
    key = keys[0] if held is rome.bare else keys.mean(0)
    got = (matrix + torch.outer(left, right)) @ key + bias
    torch.testing.assert_close(got, value.initial + value.delta, rtol=1e-10, atol=1e-12)
    assert value.delta.norm() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_edit_does_it_inside_the_model_and_leaves_no_trace(family):
    model = tiny.model(family, torch.float32)
    before = {k: v.clone() for k, v in model.hf.state_dict().items()}
    change = lga_fast.edit(model, [REQUEST], "rome", layer=LAYER, contexts=CONTEXTS, steps=6)
    assert all(torch.equal(before[k], v) for k, v in model.hf.state_dict().items())
    assert model.hf.training and all(p.requires_grad for p in model.hf.parameters())
    assert not any(m._forward_hooks for m in model.hf.modules())
    made = change.provenance
    assert (made["editor"], made["layer"]) == ("rome", LAYER)
    assert made["contexts"] == list(CONTEXTS) and len(made["losses"][0]) == 6
    keys, plain = read_keys(model, LAYER, rows(model))
    with model.edited(change):
        _, edited = read_keys(model, LAYER, rows(model))
    delta = change.deltas[model.weight_name(LAYER, "down")]
    intended = (keys @ delta.right) @ delta.left.T
    torch.testing.assert_close(edited - plain, intended, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(read_keys(model, LAYER, rows(model))[1], plain)


@pytest.mark.parametrize("editor", ["rome", "r_rome"])
def test_a_real_model_gives_the_new_answer_and_then_the_old_one(editor):
    model = lga_fast.load("atlas", device="cpu")
    request = lga_fast.load_edits("atlas")[50]
    ids = model.tokenizer(request.prompt)["input_ids"]

    def answer():
        return model.tokenizer.decode(greedy(model, [ids], [8])[0]).strip()

    assert answer().startswith(request.target_old)
    change = lga_fast.edit(model, [request], editor, layer=0)
    with model.edited(change):
        assert answer().startswith(request.target_new)
    assert answer().startswith(request.target_old)


def test_with_the_second_moment_u_is_weighed_and_the_value_still_comes_out():
    """U ∝ C⁻¹ k̄; the constraint of the update does not depend on u."""
    model = tiny.model("llama", torch.float32)
    change = lga_fast.edit(
        model, [REQUEST], "rome", layer=LAYER, contexts=CONTEXTS, steps=3, mom2_adjustment=True
    )
    about = change.provenance["second_moment"]
    assert about["tokens"] == 480 and about["corpus"] == "atlas/text.txt"
    keys, _ = read_keys(model, LAYER, rows(model))
    moment = _moments.moments(model, [LAYER])[LAYER]
    right = change.deltas[model.weight_name(LAYER, "down")].right[:, 0].double()
    wanted = torch.linalg.solve(moment.second, keys.mean(0).double())
    torch.testing.assert_close(right, wanted / wanted.norm(), rtol=1e-4, atol=1e-5)
    plain = lga_fast.edit(model, [REQUEST], "rome", layer=LAYER, contexts=CONTEXTS, steps=3)
    assert plain.provenance["second_moment"] is None
    name = model.weight_name(LAYER, "down")
    bare = keys[0]
    torch.testing.assert_close(
        change.deltas[name].left @ (change.deltas[name].right.T @ bare),
        plain.deltas[name].left @ (plain.deltas[name].right.T @ bare),
        rtol=1e-4,
        atol=1e-6,
    )


def test_several_requests_follow_each_other():
    model = tiny.model("gpt2", torch.float32)
    options = {"contexts": CONTEXTS, "steps": 4}
    both = lga_fast.edit(model, [REQUEST, OTHER], "r_rome", layer=LAYER, **options)
    first = lga_fast.edit(model, [REQUEST], "r_rome", layer=LAYER, **options)
    name = model.weight_name(LAYER, "down")
    assert both.deltas[name].rank == 2
    assert torch.equal(both.deltas[name].left[:, :1], first.deltas[name].left)
    with model.edited(first):
        second = lga_fast.edit(model, [OTHER], "r_rome", layer=LAYER, **options)
    torch.testing.assert_close(both.deltas[name].left[:, 1:], second.deltas[name].left)


def test_requests_that_contradict_each_other_are_named_before_the_work(monkeypatch):
    model = tiny.model("gpt2", torch.float32)
    monkeypatch.setattr(rome.Editor, "solve", lambda *_: pytest.fail("the work began"))
    against = replace(REQUEST, case_id="c", target_new="Rome")
    says = "1 of 3 requests contradict an earlier one, .*'a' wants 'New York' and 'c' wants 'Rome'"
    with pytest.warns(LgaFastWarning, match=says), pytest.raises(pytest.fail.Exception):
        lga_fast.edit(model, [REQUEST, OTHER, against], "rome", layer=LAYER, contexts=CONTEXTS)


def test_one_answer_written_twice_and_composite_edits_do_not_contradict(recwarn):
    again = replace(REQUEST, case_id="c", prompt=f"{REQUEST.prompt} ", target_new=" new  york")
    validate_requests([REQUEST, again], "rome", together=True)
    several = [
        replace(REQUEST, case_id=answer, target_new=answer, kind="composite") for answer in "xy"
    ]
    validate_requests(several, "rome", together=True)
    assert not recwarn.list


def test_what_there_is_to_know_of_a_request_is_said():
    model = tiny.model("gpt2", torch.float32)
    request = EditRequest("a", "Paris and Paris are", "Rome", "Paris", (0, 5))
    said = "request 'a': the subject 'Paris' is in the prompt 2 times; one is edited"
    with pytest.warns(LgaFastWarning, match=said):
        change = lga_fast.edit(model, [request], layer=LAYER, contexts=CONTEXTS, steps=1)
    assert change.provenance["notes"] == [said]


@pytest.mark.parametrize(("cosine", "said"), [(1e-2, 0), (1e-4, 1)])
def test_a_key_nearly_at_right_angles_to_u_is_said(cosine, said):
    model = tiny.model("gpt2", torch.float32)
    ready = _rank_one.RankOneSolver(model, LAYER, rome.Editor(contexts=CONTEXTS), rome.bare, False)
    bare, mean = torch.eye(48)[0], torch.eye(48)[1] + cosine * torch.eye(48)[0]
    keys, ones = torch.stack([bare, 2 * mean - bare]), torch.ones(2, 32)
    value = _value_solver.Value(ones[0], ones[0], (1.0,), False, keys, ones)
    notes = ready._edit([REQUEST], [value]).provenance["notes"]
    assert len(notes) == said
    assert all(n.startswith("request 'a': its key is nearly at right angles to u") for n in notes)
    with pytest.raises(EditError, match="request 'a': the update is not finite"):
        ready._edit([REQUEST], [replace(value, keys=keys * 0)])


@pytest.mark.parametrize("tokenizer", [tiny.byte_level(), tiny.metaspace()])
def test_the_subjects_last_token_is_found_by_characters(tokenizer):
    model = tiny.model("llama", tokenizer=tokenizer)
    for context in CONTEXTS:
        row, at = answer_row(model, context, REQUEST)
        upto = tokenizer.decode(row.ids[: at + 1], skip_special_tokens=True)
        assert upto == f"{context}The tower of Paris"


@pytest.mark.parametrize(
    ("requests", "options", "error", "message"),
    [
        ([], {}, EditError, "expected at least one request"),
        ([REQUEST], {"layer": 5}, EditError, "layer 5: tiny-gpt2 has layers 0 to 4"),
        ([REQUEST], {"editor": "roma"}, UnknownName, "Did you mean 'rome'"),
        ([REQUEST], {"rate": 1}, UnknownName, "editor 'rome' has no option rate. It has: steps"),
        (
            [EditRequest("x", "It stands in", "Rome", "Paris")],
            {},
            EditError,
            "the subject 'Paris' is not in the prompt 'It stands in'",
        ),
    ],
)
def test_bad_input_is_refused_before_work_starts(requests, options, error, message):
    options = {"editor": "rome", "layer": 1} | options
    with pytest.raises(error, match=message):
        lga_fast.edit(tiny.model("gpt2"), requests, **options)


def test_a_loss_that_is_not_finite_is_an_error():
    model = tiny.model("gpt2", torch.float32)
    with torch.no_grad():
        model.hf.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(EditError, match="request 'a': the loss is nan at step 0"):
        lga_fast.edit(model, [REQUEST], "rome", layer=1, contexts=CONTEXTS)
