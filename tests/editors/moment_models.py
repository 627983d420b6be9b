"""Small models whose second moments are measured, and how often they run."""

from __future__ import annotations

import tiny
import torch

TOKENIZERS = {"gpt2": tiny.byte_level, "llama": tiny.metaspace}


def small(family="gpt2", dtype=torch.float64):
    return tiny.model(family, dtype, TOKENIZERS.get(family, tiny.byte_level)())


def forwards(model):
    """How often the model, its last block and its head began to run."""
    counts = {"model": 0, "last": 0, "head": 0}

    def count(name):
        counts[name] += 1

    for name, module in (
        ("model", model.hf),
        ("last", model._blocks[-1]),
        ("head", model.hf.get_output_embeddings()),
    ):
        module.register_forward_pre_hook(lambda *_, name=name: count(name))
    return counts
