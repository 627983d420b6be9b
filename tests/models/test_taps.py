"""The life cycle of taps: seen once each, nothing kept, nothing left behind."""

from __future__ import annotations

import weakref

import pytest
import tiny
import torch

from lga_fast.errors import TapError
from lga_fast.models import Taps

IDS = torch.tensor([[1, 2, 3, 4]])


def run(model, on_tap):
    with model.frozen(), model.taps(on_tap):
        model.hf(IDS, use_cache=False).logits.sum().backward()


def test_a_tap_is_gone_when_the_next_one_comes():
    model, alive, most = tiny.model("llama"), [], []

    def on_tap(tap):
        alive.append((weakref.ref(tap.a), weakref.ref(tap.d)))
        # `a` of gate and up is one tensor, so flattened views are what is watched here
        most.append(sum(d() is not None for _, d in alive))

    run(model, on_tap)
    assert len(most) == 15 and max(most) <= 2


def test_no_weight_gets_a_gradient_and_hooks_go_away():
    model = tiny.model("gpt2")
    run(model, lambda tap: None)
    assert all(p.grad is None for p in model.hf.parameters())
    assert not any(m._forward_hooks for m in model.hf.modules())


def test_the_graph_starts_at_the_first_tap():
    """Attention of layer 0 is not part of the backward: nothing below the lowest tap is."""
    model, seen = tiny.model("gpt2"), []
    block = model.hf.transformer.h[0]
    handle = block.attn.register_forward_hook(lambda m, a, out: seen.append(out[0].requires_grad))
    run(model, lambda tap: None)
    handle.remove()
    assert seen == [False]


def test_a_forward_without_backward_is_an_error():
    model = tiny.model("gpt2")
    message = "layer 0, matrix 'up' and 9 other taps got no gradient"
    with pytest.raises(TapError, match=message), model.frozen(), model.taps(lambda tap: None):
        model.hf(IDS)


def test_a_module_that_runs_twice_is_an_error():
    linear = torch.nn.Linear(3, 3).requires_grad_(False)
    message = "layer 0, matrix 'up' ran twice before its gradient came"
    with (
        pytest.raises(TapError, match=message),
        Taps({(0, "up"): linear}, lambda tap: None).listening(),
    ):
        linear(linear(torch.ones(1, 3)))


def _no_gradient(forward):
    return torch.no_grad()(forward)


def _undefined_gradient(forward):
    """As of an op that torch knows no backward of: a graph that hands on nothing."""

    class Cut(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return forward(x)

        @staticmethod
        def backward(ctx, *grad_outputs):
            return None

    return Cut.apply


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (_no_gradient, "layer 3, matrix 'down': its Linear gives no gradient to its input"),
        (_undefined_gradient, "layer 3, matrix '(up|gate)' got no gradient: a module after it"),
    ],
)
def test_a_module_that_cuts_the_graph_is_an_error(cut, message):
    model = tiny.model("llama")
    down = model.matrix(3, "down")
    down.forward = cut(down.forward)
    with pytest.raises(TapError, match=message):
        run(model, lambda tap: None)


def test_an_exception_inside_is_not_covered_up():
    model = tiny.model("gpt2")
    with pytest.raises(ZeroDivisionError):
        run(model, lambda tap: 1 // 0)
    assert not any(m._forward_hooks for m in model.hf.modules())
