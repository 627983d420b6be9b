"""Which edits a model takes, and what it says of the others."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast.errors import EditError
from lga_fast.weight_edit import LowRank, WeightEdit
from tests.models.edits import bits, make_edit


def test_apply_keeps_and_later_edits_of_the_same_origin_are_taken():
    model = tiny.model("gpt2", torch.float32)
    first, second, third = (make_edit(model, layers=(i,), seed=i) for i in (0, 2, 4))
    model.apply(first)
    with model.edited(third):
        pass
    model.apply(second)
    edited = bits(model)
    with model.edited(third):
        pass
    assert bits(model) == edited


def test_an_edit_of_other_weights_is_refused():
    model, other = tiny.model("gpt2", torch.float32), tiny.model("gpt2", torch.float32)
    with torch.no_grad():
        other.matrix(0, "up").weight.add_(1)
    old, foreign = bits(model), make_edit(other, editor="rome")
    origin = model.fingerprint()
    message = (
        rf"WeightEdit\(rome: transformer.h.2.mlp.c_proj.weight 32x48 rank 1\) was solved on other "
        rf"weights: expected the fingerprint of 'tiny-gpt2', {origin}, got "
        rf"{other.fingerprint()}. Load the model and dtype .* or pass force=True"
    )
    for attempt in (lambda: model.apply(foreign), lambda: model.edited(foreign).__enter__()):
        with pytest.raises(EditError, match=message):
            attempt()
        assert bits(model) == old
    with pytest.raises(EditError, match="got none in its provenance"):
        model.apply(WeightEdit(foreign.deltas))
    with model.edited(foreign, force=True):
        assert bits(model) != old
    model.apply(foreign, force=True)
    with pytest.raises(EditError, match=rf"\(before the edits in effect: {origin}\)"):
        model.apply(make_edit(other, seed=3))


def test_weights_changed_by_other_means_break_the_chain():
    model = tiny.model("llama", torch.float32)
    early, edit = make_edit(model, layers=(1,)), make_edit(model)
    model.apply(edit)
    with torch.no_grad():
        model.matrix(0, "down").weight.mul_(2)
    with pytest.raises(EditError, match="was solved on other weights"):
        model.apply(early)
    model.apply(make_edit(model, layers=(3,)))  # solved on what is there now
    with pytest.raises(EditError, match="was solved on other weights"):
        model.apply(early)  # still: the chain ends at the change from outside


def test_the_same_edit_twice_is_refused():
    model = tiny.model("llama", torch.float32)
    edit = make_edit(model)
    with model.edited(edit):
        with pytest.raises(EditError, match="is in effect already; .* pass force=True"):
            model.edited(edit).__enter__()
        with model.edited(edit, force=True):
            pass
    model.apply(edit)  # no longer in effect: free again


def test_apply_inside_edited_is_refused():
    model = tiny.model("llama", torch.float32)
    old = bits(model)
    with model.edited(make_edit(model)), pytest.raises(EditError, match="Nest another `edited`"):
        model.apply(make_edit(model, seed=1), force=True)
    assert bits(model) == old


def test_what_does_not_fit_the_model_is_refused_even_by_force():
    model, gpt2 = tiny.model("llama", torch.float32), tiny.model("gpt2", torch.float32)
    turned = LowRank(torch.ones(48, 1), torch.ones(32, 1))
    old = bits(model)
    for edit, message in [
        (
            make_edit(gpt2),
            "c_proj.weight: expected an MLP matrix of 'tiny-llama', such as model.la",
        ),
        (
            WeightEdit({model.weight_name(1, "down"): turned}),
            r"expected \(d_out, d_in\) \(32, 48\) as in 'tiny-llama', got \(48, 32\)",
        ),
    ]:
        with pytest.raises(EditError, match=message):
            model.apply(edit, force=True)
    assert bits(model) == old


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (torch.nn.utils.parametrizations.weight_norm, "got a weight that is computed in a Param"),
        (lambda module: module.to("meta"), "a weight in memory, got one on 'meta'"),
        (
            lambda module: module.to(torch.float8_e4m3fn),
            "got a Parameter of torch.float8_e4m3fn in a Linear",
        ),
    ],
    ids=("computed", "meta", "float8"),
)
def test_weights_that_cannot_be_changed_are_refused(spoil, message):
    model = tiny.model("llama", torch.float32)
    edit = make_edit(model)
    spoil(model.matrix(2, "down"))
    with pytest.raises(EditError, match=f"edit of {model.weight_name(2, 'down')}: .*{message}"):
        model.apply(edit, force=True)


def test_a_weight_made_in_inference_mode_is_refused_unchanged():
    with torch.inference_mode():
        model = tiny.model("llama", torch.float32)
    edit, before = make_edit(model), bits(model)
    for use in (model.apply, lambda edit: model.edited(edit).__enter__()):
        with pytest.raises(EditError, match=r"made under torch.inference_mode\(\). Load"):
            use(edit)
    assert bits(model) == before
    with torch.inference_mode(), model.edited(edit):
        assert bits(model) != before
    assert bits(model) == before
