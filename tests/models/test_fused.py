"""The fused activation is the same function, and the model gets its own back."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast.models.fused import fused_gelu


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gpt_neo", "phi"])
def test_same_function_and_nothing_left(family):
    model = tiny.model(family)
    ids = torch.randint(0, 300, (2, 9))
    with torch.no_grad(), model.frozen():
        own = model.hf(ids, use_cache=False).logits
        with pytest.raises(KeyboardInterrupt), fused_gelu(model.hf):
            patched = [m for m in model.hf.modules() if "forward" in vars(m)]
            fused = model.hf(ids, use_cache=False).logits
            raise KeyboardInterrupt
        assert len(patched) == model.layers
        assert not any("forward" in vars(m) for m in model.hf.modules())
        torch.testing.assert_close(fused, own, rtol=1e-10, atol=1e-10)
        assert torch.equal(model.hf(ids, use_cache=False).logits, own)


def test_other_activations_are_left_alone():
    model = tiny.model("llama")
    with fused_gelu(model.hf):
        assert not any("forward" in vars(m) for m in model.hf.modules())
