"""A whole scoring pass beside the paper's way and `autograd.grad`, on GPT-2 124M's shape."""

import pytest
import torch
from transformers import GPT2Config

try:
    from benchmarks import selection
except ImportError:
    import selection

WAYS = {"ours": selection.ours, "paper": selection.paper, "mlp_only": selection.mlp_only}


@pytest.fixture(scope="module")
def model():
    config = GPT2Config(attn_implementation="eager")
    return selection.model_of(config, "cpu", torch.float32)


@pytest.mark.parametrize("way", WAYS)
def test_bench_selection(benchmark, model, way):
    benchmark.group = "GPT-2 124M, 8 facts of 14 + 3 tokens"
    facts = selection.facts_of(8, 14, 3, 50257)
    benchmark.pedantic(WAYS[way], (model, facts), rounds=3, warmup_rounds=1)
