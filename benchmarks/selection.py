"""A scoring pass against the paper's way, on random weights: `python benchmarks/selection.py`.

The paper's way takes two full backward passes per fact, keeps the MLP gradients of both and
multiplies them. A careful user's way is timed as well: `autograd.grad` on the MLP's parameters
alone. All run the same model on the same tokens; scores are compared before anything is timed.
Without arguments: GPT-2 124M's shape, 8 facts of 14 + 3 tokens, one thread, float32; writes
results/selection_cpu.json.
"""

from __future__ import annotations

import ctypes
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, PretrainedConfig

import lga_fast
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.tokens import Row, target_row

try:
    from benchmarks import timing
except ImportError:
    import timing

SEED = 0


class Numbers:
    """A tokenizer whose words are token ids; timing random weights needs no vocabulary."""

    is_fast, eos_token_id = False, None

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        ids = [int(word) for word in text.split()]
        return {"input_ids": ids, "special_tokens_mask": [0] * len(ids)}


def facts_of(number: int, prompt: int, answer: int, vocabulary: int) -> list[EditRequest]:
    """Random requests with the given numbers of prompt and answer tokens."""
    return requests_of([[prompt, answer, answer]] * number, vocabulary)


def requests_of(lengths: list[list[int]], vocabulary: int) -> list[EditRequest]:
    """Random requests with these numbers of tokens in prompt, old and new answer."""
    draw = random.Random(SEED)

    def words(count: int) -> str:
        return " ".join(str(draw.randrange(vocabulary)) for _ in range(count))

    return [
        EditRequest(str(i), words(prompt), words(new), target_old=words(old))
        for i, (prompt, old, new) in enumerate(lengths)
    ]


def model_of(config: PretrainedConfig, device: str, dtype: torch.dtype) -> EditableModel:
    """A random model that never ends a text."""
    torch.manual_seed(SEED)
    config.eos_token_id = config.bos_token_id = None
    with torch.device(device):
        hf = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    hf.generation_config.eos_token_id = None
    return EditableModel(hf, Numbers(), f"random {config.model_type}")


def ours(model: EditableModel, facts: list[EditRequest]) -> torch.Tensor:
    """Scores [request, layer] by `score_layers`."""
    scores = lga_fast.score_layers(model, facts, old="ground_truth", show_progress=False)
    return torch.from_numpy(scores.per_request())


def _loss(model: EditableModel, row: Row) -> torch.Tensor:
    ids = torch.tensor([row.ids], device=model.device)
    logits = model.hf(input_ids=ids, use_cache=False).logits[0, row.start - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, ids[0, row.start :])


def _by_gradients(
    model: EditableModel,
    facts: list[EditRequest],
    gradients: Callable[[torch.Tensor, list[torch.Tensor]], list[torch.Tensor]],
) -> torch.Tensor:
    blocks = [
        [p for role in model.family.matrices for p in model.matrix(layer, role).parameters()]
        for layer in range(model.layers)
    ]
    flat = [p for block in blocks for p in block]
    scores = torch.zeros(len(facts), model.layers, dtype=torch.float64)
    for i, fact in enumerate(facts):
        sides = [
            gradients(_loss(model, target_row(model.tokenizer, fact.prompt, answer)), flat)
            for answer in (fact.target_old or "", fact.target_new)
        ]
        dots = torch.stack([(x * y).sum() for x, y in zip(*sides, strict=True)]).double().cpu()
        scores[i] = torch.stack([part.sum() for part in dots.split([len(b) for b in blocks])])
    return scores


def paper(model: EditableModel, facts: list[EditRequest]) -> torch.Tensor:
    """Scores by two full backward passes per fact, gradients kept and multiplied."""

    def full(loss: torch.Tensor, wanted: list[torch.Tensor]) -> list[torch.Tensor]:
        model.hf.zero_grad(set_to_none=True)
        loss.backward()
        return [p.grad.clone() for p in wanted]  # type: ignore[union-attr]

    scores = _by_gradients(model, facts, full)
    model.hf.zero_grad(set_to_none=True)
    return scores


def mlp_only(model: EditableModel, facts: list[EditRequest]) -> torch.Tensor:
    """Scores by `autograd.grad` on the MLP's parameters alone, two passes per fact."""
    return _by_gradients(model, facts, lambda loss, p: list(torch.autograd.grad(loss, p)))


def compare(
    config: PretrainedConfig,
    device: str,
    dtype: torch.dtype,
    facts: int,
    prompt: int = 14,
    answer: int = 3,
    repeats: int = 5,
) -> dict[str, Any]:
    """Seconds, ratios, peak memory and agreement, the three ways alternating in one process."""
    model = model_of(config, device, dtype)
    requests = facts_of(facts, prompt, answer, config.vocab_size)
    ways = {"ours": ours, "paper": paper, "mlp_only": mlp_only}
    scores, peaks = {}, {}
    for name, way in ways.items():  # also the warm-up
        peaks[name], scores[name] = _peak_bytes(device, way, model, requests)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way(model, requests)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    mlp = sum(
        p.numel() * p.element_size()
        for layer in range(model.layers)
        for role in model.family.matrices
        for p in model.matrix(layer, role).parameters()
    )
    scale = scores["paper"].square().mean(0).sqrt()  # of each layer over the facts
    ratios = {
        name: [theirs / mine for theirs, mine in zip(seconds[name], seconds["ours"], strict=True)]
        for name in ("paper", "mlp_only")
    }
    return {
        "model": f"{config.model_type}, {model.layers} layers, width {config.hidden_size}",
        "device": device,
        "dtype": str(dtype)[6:],
        "facts": facts,
        "tokens": [prompt, answer],
        "seconds": seconds,
        "median_seconds": {name: statistics.median(s) for name, s in seconds.items()},
        "times_faster_than_paper": _spread(ratios["paper"]),
        "times_faster_than_mlp_only": _spread(ratios["mlp_only"]),
        "peak_bytes_above_model": peaks,
        "per_sample_mlp_gradient_bytes": 2 * facts * mlp,
        "peak_share_of_gradients": peaks["ours"] / (2 * facts * mlp),
        "largest_difference_in_layer_rms": float(
            ((scores["ours"] - scores["paper"]) / scale).abs().max()
        ),
        "same_layer_ranking": bool(
            (scores["ours"].sum(0).argsort() == scores["paper"].sum(0).argsort()).all()
        ),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _peak_bytes(device: str, way: Callable, *arguments: Any) -> tuple[int, torch.Tensor]:
    """Peak memory above the level at the start, and the result."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = way(*arguments)
        return torch.cuda.max_memory_allocated() - before, result
    ctypes.CDLL(None).malloc_trim(0)  # so that memory freed by an earlier way is not reused
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the high-water mark of resident memory
    before = _status("VmRSS")
    result = way(*arguments)
    return _status("VmHWM") - before, result


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    """The figures for one CPU thread."""
    torch.set_num_threads(1)
    row = compare(GPT2Config(attn_implementation="eager"), "cpu", torch.float32, facts=8)
    timing.write_result("selection_cpu", [row], SEED)


if __name__ == "__main__":
    main()
