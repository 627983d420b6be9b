"""Second moments of every layer's keys in one pass: `python benchmarks/moments.py`.

On random weights, against one plain forward over the same rows plus the Gram updates alone
(float64, the same blocks of keys), alternating in one process. A pass should cost at most 1.3x
their sum. Also checks the trace identity mean(kᵀ C⁻¹ k) = d_in on the embedded model. Without
arguments: GPT-2 124M's shape, 4,096 tokens, one thread, float32; writes results/moments_cpu.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

import lga_fast
from lga_fast import memory
from lga_fast.editors import _corpus, _moment_pass, _moments
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import padded

try:
    from benchmarks import timing
    from benchmarks.editing import SEED, model_of
    from benchmarks.selection import _spread
except ImportError:
    import timing
    from editing import SEED, model_of
    from selection import _spread

TOKENS = 4096


def batches(rows: list[list[int]]) -> list[list[list[int]]]:
    """The rows as `moments` batches them."""
    groups = memory.batches(dict(enumerate(map(len, rows))), 4096)
    return [[rows[i] for i in group] for group in groups]


def forward(model: EditableModel, rows: list[list[int]]) -> None:
    """The model over the rows, without its head."""
    with torch.no_grad(), model.frozen(), fast_gelu(model.hf):
        for batch in batches(rows):
            model.hf.base_model(input_ids=padded(batch).to(model.device), use_cache=False)


def grams(keys: torch.Tensor, layers: int) -> None:
    """The updates of all layers' sums, as in `moments`."""
    sums = torch.zeros(layers, keys.shape[1], keys.shape[1], dtype=torch.float64)
    for total in sums:
        for block in keys.split(_moment_pass.KEYS_AT_ONCE):
            wide = block.double()
            total.addmm_(wide.T, wide)


def compare(repeats: int = 3) -> dict[str, Any]:
    """Seconds of the pass and of its parts, and the trace identity."""
    model = model_of(torch.float32)
    _, _, documents = _corpus.read(None)
    rows = _corpus.rows_of(model, documents, TOKENS, _moments.ROW_TOKENS)
    width = model.shape(0, model.family.edited)[1]
    keys = torch.randn(TOKENS, width)
    ways: dict[str, Callable[[], Any]] = {
        "moments": lambda: _moments.moments(
            model, range(model.layers), tokens=TOKENS, show_progress=False
        ),
        "forward": lambda: forward(model, rows),
        "grams": lambda: grams(keys, model.layers),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - started)
    parts = zip(seconds["moments"], seconds["forward"], seconds["grams"], strict=True)
    return {
        "model": f"gpt2, {model.layers} layers, width {model.config.hidden_size}",
        "tokens": TOKENS,
        "seconds": seconds,
        "pass_over_forward_and_grams": _spread([whole / (a + b) for whole, a, b in parts]),
    }


def trace_identity() -> dict[str, Any]:
    """|mean(kᵀ C⁻¹ k) / d_in - 1| of the embedded model's layers; the keys are read again."""
    model = lga_fast.load("atlas", device="cpu")
    by_layer = _moments.moments(model, range(model.layers), show_progress=False)
    width = model.shape(0, model.family.edited)[1]
    longest = min(model.max_tokens, _moments.ROW_TOKENS)
    rows = _corpus.rows_of(model, _corpus.read(None)[2], 10 * width, longest)
    real = torch.cat(
        [torch.arange(len(batch[0])) < len(row) for batch in batches(rows) for row in batch]
    )
    errors = []
    for layer, moment in by_layer.items():
        keys: list[torch.Tensor] = []
        hook = model.matrix(layer, model.family.edited).register_forward_pre_hook(
            lambda m, args, keys=keys: keys.append(args[0].flatten(0, 1).double())
        )
        forward(model, rows)
        hook.remove()
        every = torch.cat(keys)[real]
        mean = float((every * moment.solve(every)).sum(1).mean())
        errors.append(abs(mean / width - 1))
    report = {"jitter": [m.jitter for m in by_layer.values()], "errors": errors}
    return {"model": "atlas", "tokens": by_layer[0].tokens, **report, "largest_error": max(errors)}


def main() -> None:
    """The figures for one CPU thread."""
    torch.set_num_threads(1)
    timing.write_result("moments_cpu", [compare(), trace_identity()], SEED)


if __name__ == "__main__":
    main()
