"""Half precision on a CPU without instructions for it: float32's products, rounded once."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import pytest
import tiny
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import _get_current_function_mode_stack
from transformers import Conv1D

from lga_fast.models import half_products, pieced_linear

HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def _slow_and_small(monkeypatch):
    monkeypatch.setattr(half_products, "_slow_dtypes", lambda: frozenset(HALVES))
    monkeypatch.setattr(pieced_linear, "_PIECE", 4 * 16 * 5)  # 5 rows of 16 inputs


def both(function, x, grad):
    """The function's value and gradient at `x`."""
    y = function(leaf := x.clone().requires_grad_())
    return y.detach(), torch.autograd.grad(y, leaf, grad)[0]


def check(function, exact, x, grad, model):
    """Inside, value and gradient are those of float32, each rounded once."""
    with half_products.half_products(model):
        without, (y, found) = function(x), both(function, x, grad)
    assert y.dtype == found.dtype == x.dtype
    assert torch.equal(y, without)
    for ours, wanted in zip((y, found), both(exact, x.float(), grad.float()), strict=True):
        eps = torch.finfo(x.dtype).eps
        torch.testing.assert_close(ours.float(), wanted, rtol=eps, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize("kind", ["linear", "linear without bias", "Conv1D"])
def test_linear_modules_and_their_gradients_are_float32s(kind, tokens, dtype):
    module = Conv1D(23, 16) if kind == "Conv1D" else nn.Linear(16, 23, bias=kind == "linear")
    module = module.to(dtype).requires_grad_(False)
    wide = deepcopy(module).float()
    x, grad = torch.randn(1, tokens, 16).to(dtype), torch.randn(1, tokens, 23).to(dtype)
    check(module, wide, x, grad, module)


@pytest.mark.parametrize("dtype", HALVES)
def test_products_of_an_attention_are_float32s(dtype):
    model = nn.Linear(1, 1, dtype=dtype)
    x, grad, other = (torch.randn(2, 3, 8, 8).to(dtype) for _ in range(3))
    mask = torch.randn(8, 8).to(dtype)
    check(lambda x: x @ other, lambda x: x @ other.float(), x, grad, model)
    check(lambda x: other.matmul(x), lambda x: other.float().matmul(x), x, grad, model)
    check(
        lambda x: scaled_dot_product_attention(x, other, other, attn_mask=mask),
        lambda x: scaled_dot_product_attention(x, *[other.float()] * 2, attn_mask=mask.float()),
        x,
        grad,
        model,
    )


def test_a_trained_weight_has_torchs_product_and_misfits_torchs_error():
    module = nn.Linear(16, 23, dtype=torch.bfloat16)
    x = torch.randn(7, 16).bfloat16()
    own = module(x)
    with half_products.half_products(module):
        y = module(x)
        y.sum().backward()
        with pytest.raises(RuntimeError, match="dtype"):
            module(x.float())
        with pytest.raises(RuntimeError, match="shapes"):
            module.requires_grad_(False)(x[:, :3])
    assert torch.equal(y, own)
    assert module.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_half_precision_runs_so_and_only_while_frozen(dtype):
    model = tiny.model("llama", dtype=dtype)
    with pytest.raises(KeyboardInterrupt), model.frozen(), model.frozen():
        depth = len(_get_current_function_mode_stack())
        raise KeyboardInterrupt
    assert depth == (2 if dtype == torch.bfloat16 else 0)
    assert not _get_current_function_mode_stack()


@pytest.mark.parametrize(("device", "depth"), [("cpu", 1), ("meta", 1), ("cuda", 0)])
def test_weights_on_another_device_cost_nothing(device, depth):
    weight = SimpleNamespace(dtype=torch.bfloat16, device=torch.device(device))
    with half_products.half_products(SimpleNamespace(parameters=lambda: [weight])):
        assert len(_get_current_function_mode_stack()) == depth
