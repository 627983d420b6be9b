"""The fused activation is the same function, and the model gets its own back."""

from __future__ import annotations

from functools import partial

import pytest
import tiny
import torch

from lga_fast.forward.cpu_fast_paths import fast_gelu, head_in_pieces
from lga_fast.models import pieced_linear


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gpt_neo", "phi"])
def test_same_function_and_nothing_left(family):
    model = tiny.model(family)
    ids = torch.randint(0, 300, (2, 9))
    with torch.no_grad(), model.frozen():
        own = model.hf(ids, use_cache=False).logits
        with pytest.raises(KeyboardInterrupt), fast_gelu(model.hf):
            patched = [m for m in model.hf.modules() if "forward" in vars(m)]
            cpu_fast_paths = model.hf(ids, use_cache=False).logits
            raise KeyboardInterrupt
        assert len(patched) == model.layers
        assert not any("forward" in vars(m) for m in model.hf.modules())
        torch.testing.assert_close(cpu_fast_paths, own, rtol=1e-10, atol=1e-10)
        assert torch.equal(model.hf(ids, use_cache=False).logits, own)


def test_other_activations_are_left_alone():
    model = tiny.model("llama")
    with fast_gelu(model.hf):
        assert not any("forward" in vars(m) for m in model.hf.modules())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_gelu_with_a_gradient_is_torchs(dtype):
    model = tiny.model("gpt2")
    x, grad = torch.linspace(-12, 12, 4001, dtype=dtype), torch.linspace(1, 2, 4001, dtype=dtype)
    found = []
    for function in (partial(torch.nn.functional.gelu, approximate="tanh"), None):
        with fast_gelu(model.hf):
            act = function or model.part(0, "mlp").act
            y = act(leaf := x.clone().requires_grad_())
            found.append((y.detach(), *torch.autograd.grad(y, leaf, grad)))
    rounding = torch.finfo(dtype).eps
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=8 * rounding, atol=128 * rounding)


@pytest.mark.parametrize("bias", [False, True])
def test_a_head_in_pieces_is_the_whole(monkeypatch, bias):
    model = tiny.model("phi" if bias else "llama")
    head = model.hf.get_output_embeddings()
    monkeypatch.setattr(pieced_linear, "_PIECE", 7 * head.weight[0].nbytes)
    x = torch.randn(3, 32, dtype=torch.float64, requires_grad=True)
    whole = head(x)
    with head_in_pieces(model.hf):
        parts = head(x)
    assert "forward" not in vars(head)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    wanted, found = (torch.autograd.grad(y.square().sum(), x)[0] for y in (whole, parts))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
