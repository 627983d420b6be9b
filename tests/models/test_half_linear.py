"""Half precision on a CPU without instructions for it: float32's product, rounded once."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import nn
from transformers import Conv1D

from lga_fast.models import half_linear

HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def _slow_and_small(monkeypatch):
    monkeypatch.setattr(half_linear, "_slow_dtypes", lambda: set(HALVES))
    monkeypatch.setattr(half_linear, "_PIECE", 4 * 16 * 5)  # 5 rows of 16 inputs


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize(
    "make",
    [lambda: nn.Linear(16, 23), lambda: nn.Linear(16, 23, bias=False), lambda: Conv1D(23, 16)],
)
def test_the_product_and_its_gradient_are_float32s_rounded_once(make, tokens, dtype):
    module = make().to(dtype).requires_grad_(False)
    x, grad = torch.randn(1, tokens, 16).to(dtype), torch.randn(1, tokens, 23).to(dtype)
    with half_linear.half_linear(module):
        without = module(x)
        y = module(leaf := x.clone().requires_grad_())
    assert "forward" not in vars(module)
    (found,) = torch.autograd.grad(y, leaf, grad)
    wide = module.float()
    exact = wide(leaf := x.float().requires_grad_())
    (wanted,) = torch.autograd.grad(exact, leaf, grad.float())
    assert y.dtype == found.dtype == dtype
    assert torch.equal(y, without)
    one = {"rtol": torch.finfo(dtype).eps, "atol": 1e-6}  # a rounding
    torch.testing.assert_close(y.float(), exact, **one)
    torch.testing.assert_close(found.float(), wanted, **one)


def test_a_trained_weight_and_other_inputs_have_torchs_product():
    module = nn.Linear(16, 23, dtype=torch.bfloat16)
    x = torch.randn(7, 16).bfloat16()
    own = module(x)
    with half_linear.half_linear(module):
        y = module(x)
        y.sum().backward()
        with pytest.raises(RuntimeError, match="dtype"):
            module(x.float())
    assert torch.equal(y, own)
    assert module.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_half_precision_is_replaced_and_only_while_frozen(dtype):
    model = tiny.model("llama", dtype=dtype)
    with model.frozen():
        replaced = [m for m in model.hf.modules() if "forward" in vars(m)]
        with model.frozen():
            pass
        assert replaced == [m for m in model.hf.modules() if "forward" in vars(m)]
    wanted = [m for m in model.hf.modules() if type(m) is nn.Linear]
    assert replaced == (wanted if dtype == torch.bfloat16 else [])
    assert not any("forward" in vars(m) for m in model.hf.modules())
