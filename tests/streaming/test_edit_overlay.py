"""Edits of a streamed model: the bits of resident weights that carry them."""

from __future__ import annotations

import pytest
import tiny
import torch
from both_placements import both

from lga_fast.errors import EditError
from tests.models.edits import make_edit

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


def state(model):
    """What an edit changes: fingerprint and logits."""
    with torch.no_grad():
        return model.fingerprint(), model.hf(IDS).logits


def assert_alike(models):
    (name, logits), (other, others) = map(state, models)
    assert name == other and torch.equal(logits, others)


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        *((family, "float32") for family in tiny.one_stream()),
        *((family, dtype) for family in ("gpt2", "gemma3") for dtype in ("float64", "bfloat16")),
    ],
)
def test_nested_edits_of_every_family(family, dtype, tmp_path):
    models = both(tmp_path, tiny.model(family, torch.float32), dtype=dtype)
    assert_alike(models)
    plain = state(models[1])
    one = make_edit(models[0], layers=(1, 3), rank=2)
    with models[0].edited(one) as wanted, models[1].edited(one) as applied:
        assert applied.rounding == wanted.rounding
        assert_alike(models)
        assert models[1].fingerprint() != plain[0]
        two = make_edit(models[0], layers=(3,), seed=1)
        with models[0].edited(two), models[1].edited(two):
            assert_alike(models)
        assert_alike(models)
    assert_alike(models)
    assert torch.equal(state(models[1])[1], plain[1])


def test_an_edit_ends_with_an_error_and_apply_keeps_it(tmp_path):
    models = both(tmp_path, tiny.model("llama", torch.float32))
    streamed = models[1]
    one, two = make_edit(streamed), make_edit(streamed, seed=1)
    before = state(streamed)
    with pytest.raises(ZeroDivisionError), streamed.edited(one):
        1 / 0  # noqa: B018
    assert streamed.fingerprint() == before[0] and torch.equal(state(streamed)[1], before[1])
    for model in models:
        model.apply(one)
        with pytest.raises(EditError, match="in effect already"):
            model.apply(one)
    with models[0].edited(two), streamed.edited(two):  # solved before the first
        assert_alike(models)
    assert_alike(models)
    assert streamed.fingerprint() != before[0]


def test_edits_that_do_not_belong_are_refused_as_ever(tmp_path):
    _, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    other = tiny.model("gpt2", torch.float32)
    cases = [
        (make_edit(other), "expected an MLP matrix of"),
        (make_edit(streamed, model_fingerprint="x"), "was solved on other weights"),
        (make_edit(streamed, scale=1e30), "expected finite weights"),
    ]
    before = streamed.fingerprint()
    for edit, message in cases:
        with pytest.raises(EditError, match=message), streamed.edited(edit):
            pass
        assert streamed.fingerprint() == before and not streamed._edit_stack.active
