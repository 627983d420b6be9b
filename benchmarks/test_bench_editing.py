"""One R-ROME edit, and sixteen together, beside the plain form and the usual way."""

from functools import partial

import pytest
import torch

import lga_fast
from lga_fast.editors import _contexts
from lga_fast.forward.patched_forward import FullForward
from lga_fast.forward.suffix_forward import SuffixForward

try:
    from benchmarks import editing
except ImportError:
    import editing

WAYS = {
    "one": (partial(editing.ours, SuffixForward, editing.LAYER), 1),
    "sixteen": (partial(editing.ours, SuffixForward, editing.LAYER), 16),
    "plain": (partial(editing.ours, FullForward, editing.LAYER), 1),
    "usual": (partial(editing.usual, editing.LAYER), 1),
}


@pytest.fixture(scope="module")
def model():
    return editing.model_of(torch.float32)


@pytest.mark.parametrize("way", WAYS)
def test_bench_editing(benchmark, model, way):
    benchmark.group = "GPT-2 124M, layer 5, 20 steps, 21 contexts"
    call, count = WAYS[way]
    contexts = _contexts.generate(lga_fast.load("atlas", device="cpu"))
    requests = editing.requests_of()[:count]
    benchmark.pedantic(call, (model, requests, contexts), rounds=2)
