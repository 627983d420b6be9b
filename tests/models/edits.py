"""Edits for tests, and what of a model must not change."""

from __future__ import annotations

import torch

from lga_fast.weight_edit import LowRank, WeightEdit


def make_edit(model, layers=(2,), rank=1, seed=0, scale=0.1, role="down", **provenance):
    generator = torch.Generator().manual_seed(seed)
    deltas = {}
    for layer in layers:
        left, right = (
            torch.randn(n, rank, generator=generator) * scale for n in model.shape(layer, role)
        )
        deltas[model.weight_name(layer, role)] = LowRank(left, right)
    return WeightEdit(deltas, {"model_fingerprint": model.fingerprint()} | provenance)


def bits(model):
    """Every byte that the model holds, by name."""
    state = model.hf.state_dict()
    return {
        name: t.cpu().flatten().view(torch.uint8).numpy().tobytes() for name, t in state.items()
    }


def flags(model):
    return [(p.requires_grad, p.grad is None, p.stride()) for p in model.hf.parameters()]
