"""Edits in effect: what they add, and that every bit comes back."""

from __future__ import annotations

import itertools

import pytest
import tiny
import torch

from lga_fast import ops
from lga_fast.errors import EditError
from lga_fast.models import edit_stack
from lga_fast.weight_edit import LowRank, WeightEdit
from tests.models.edits import bits, flags, make_edit
from tests.ops.cases import DEVICES

FAMILIES = ("gpt2", "llama", "gemma3", "qwen3", "phi3")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_edit_is_added_and_every_bit_comes_back(family, dtype):
    model = tiny.model(family, dtype)
    role = next(iter(model.family.matrices))  # gate_up of phi3: a fused matrix
    edit = make_edit(model, layers=(1, 3), rank=3, role=role)
    old, was = bits(model), flags(model)
    weights = {name: model.hf.get_parameter(name) for name in edit.deltas}
    before = {name: w.detach().clone() for name, w in weights.items()}
    with model.edited(edit) as applied:
        now = bits(model)
        assert {name for name in now if now[name] != old[name]} == set(edit.deltas)
        for name, delta in edit.deltas.items():
            turned = (w.T if family == "gpt2" else w for w in (before[name], weights[name]))
            start, got = (w.detach().double() for w in turned)
            intended = delta.left.double() @ delta.right.double().T
            exact = start + intended
            # one rounding of the sum, and the rounding of the product in float32
            allowed = torch.finfo(dtype).eps * exact.abs() + 1e-6 * intended.abs() + 1e-9
            assert ((got - exact).abs() <= allowed).all()
            lost = (got - start - intended).norm() / intended.norm()
            assert applied.rounding[name] == pytest.approx(float(lost), rel=1e-9)
            low, high = {"bfloat16": (1e-3, 0.3)}.get(str(dtype)[6:], (0, 1e-4))
            assert low <= applied.rounding[name] < high
    assert bits(model) == old and flags(model) == was


def test_the_op_does_the_work(monkeypatch):
    model, seen = tiny.model("gpt2", torch.float32), []

    def spy(weight, left, right, scale=1.0):
        seen.append((tuple(weight.shape), tuple(left.shape), tuple(right.shape)))
        real(weight, left, right, scale)

    real = ops.low_rank_update_
    monkeypatch.setattr(edit_stack.ops, "low_rank_update_", spy)
    with model.edited(make_edit(model, rank=2)):
        pass
    assert seen == [((32, 48), (32, 2), (48, 2))]  # (d_out, d_in), though Conv1D stores 48 x 32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", ("gpt2", "llama"))
def test_nested_edits_add_up_and_come_off_one_by_one(family, device):
    model = tiny.model(family, torch.bfloat16)
    model.hf.to(device)
    first, second = make_edit(model), make_edit(model, layers=(2, 4), seed=1)
    states = [bits(model)]
    with model.edited(first):
        states.append(bits(model))
        with model.edited(second):  # solved before `first`, like it
            states.append(bits(model))
        assert bits(model) == states[1]
        third = make_edit(model, seed=2)  # solved on the edited model
        with model.edited(third):
            assert bits(model) not in states
        assert bits(model) == states[1]
    assert bits(model) == states[0] and len({tuple(s.values()) for s in states}) == 3


@pytest.mark.parametrize("error", (RuntimeError, KeyboardInterrupt, SystemExit))
def test_every_bit_comes_back_after_an_error(error):
    model = tiny.model("gpt2", torch.float32)
    old = bits(model)
    edits = make_edit(model), make_edit(model, seed=1)
    with pytest.raises(error), model.edited(edits[0]), model.edited(edits[1]):
        raise error
    assert bits(model) == old


@pytest.mark.parametrize("keep", (False, True))
def test_an_edit_that_stops_half_way_is_taken_back(monkeypatch, keep):
    model = tiny.model("llama", torch.float32)
    edit, old, calls = make_edit(model, layers=(0, 1, 2)), bits(model), itertools.count()

    def interrupted(weight, left, right, scale=1.0):
        real(weight, left, right, scale)
        if next(calls) == 1:
            raise KeyboardInterrupt

    real = ops.low_rank_update_
    monkeypatch.setattr(edit_stack.ops, "low_rank_update_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.apply(edit) if keep else model.edited(edit).__enter__()
    assert bits(model) == old
    model.apply(edit)  # nothing of the first attempt is in the way
    assert bits(model) != old


def test_an_interrupted_undo_is_finished(monkeypatch):
    model = tiny.model("llama", torch.float32)
    old, interrupts, real = bits(model), iter((True,)), model.hf.get_parameter

    def interrupted(name):
        if name == model.weight_name(3, "down") and next(interrupts, False):
            raise KeyboardInterrupt
        return real(name)

    monkeypatch.setattr(model.hf, "get_parameter", interrupted)
    with pytest.raises(KeyboardInterrupt), model.edited(make_edit(model, layers=(1, 3))):
        pass
    assert bits(model) == old


def test_contexts_left_out_of_order_end_together():
    model = tiny.model("gpt2", torch.float32)
    old = bits(model)
    outer, inner = model.edited(make_edit(model)), model.edited(make_edit(model, seed=1))
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert bits(model) == old
    inner.__exit__(None, None, None)
    assert bits(model) == old


@pytest.mark.parametrize("mode", (torch.no_grad, torch.inference_mode))
def test_works_without_gradients(mode):
    model = tiny.model("gpt2", torch.float32)
    old, was, ids = bits(model), flags(model), torch.arange(6).unsqueeze(0)
    with model.frozen(), mode():
        plain = model.hf(input_ids=ids).logits
        with model.edited(make_edit(model)):
            assert not torch.equal(model.hf(input_ids=ids).logits, plain)
        assert torch.equal(model.hf(input_ids=ids).logits, plain)
        applied = model.apply(make_edit(model, seed=1))
    assert len(applied.rounding) == 1 and flags(model) == was
    assert [n for n, b in bits(model).items() if b != old[n]] == [model.weight_name(2, "down")]


def test_an_edit_entered_in_inference_mode_may_end_outside():
    model = tiny.model("llama", torch.float32)
    old = bits(model)
    with torch.inference_mode():
        edit = make_edit(model)
        context = model.edited(edit)
        context.__enter__()
    context.__exit__(None, None, None)
    with model.edited(edit):
        pass
    assert bits(model) == old


@pytest.mark.parametrize("when", ("before", "inside"))
def test_a_graph_of_other_weights_is_refused_by_autograd(when):
    model = tiny.model("llama", torch.float32)
    ids = torch.arange(6).unsqueeze(0)
    if when == "before":
        loss = model.hf(input_ids=ids).logits.sum()
        with model.edited(make_edit(model)), pytest.raises(RuntimeError, match="inplace operation"):
            loss.backward()
        return
    with model.edited(make_edit(model)):
        loss = model.hf(input_ids=ids).logits.sum()
    with model.edited(make_edit(model, seed=1)):  # as many changes on: not to be mistaken for it
        pass
    with pytest.raises(RuntimeError, match="inplace operation"):
        loss.backward()


def test_gradients_inside_are_those_of_the_edited_model():
    model = tiny.model("llama", torch.float32)
    ids, name = torch.arange(6).unsqueeze(0), model.weight_name(0, "down")
    grads = []
    for keep in (False, True):
        edit = make_edit(model, layers=(4,))
        if keep:
            model.apply(edit)
            model.hf(input_ids=ids).logits.logsumexp(-1).sum().backward()
        else:
            with model.edited(edit):
                model.hf(input_ids=ids).logits.logsumexp(-1).sum().backward()
        grads.append(model.hf.get_parameter(name).grad.clone())
        model.hf.zero_grad()
    assert torch.equal(*grads)


@pytest.mark.parametrize("keep", (False, True))
def test_an_overflowing_weight_is_put_back(keep):
    model = tiny.model("gpt2", torch.float16)
    edit, old = make_edit(model, layers=(0, 2), scale=1e3), bits(model)
    with pytest.raises(EditError, match=r"beyond torch.float16 .* The weights were put back"):
        model.apply(edit) if keep else model.edited(edit).__enter__()
    assert bits(model) == old


def test_changes_lost_to_rounding_are_reported():
    model = tiny.model("llama", torch.bfloat16)
    faint, old = make_edit(model, scale=1e-6), bits(model)
    applied = model.apply(faint)
    assert applied.rounding[model.weight_name(2, "down")] > 0.95 and bits(model) == old
    nothing = LowRank(torch.zeros(32, 1), torch.zeros(48, 1))
    empty = WeightEdit({model.weight_name(0, "down"): nothing}, faint.provenance)
    assert model.apply(empty).rounding == {model.weight_name(0, "down"): 0.0}
