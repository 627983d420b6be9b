"""Scoring passes beside those of others, in one process: `python benchmarks/peers.py`.

`dattri-llm` 0.1.0 (PyPI, put into the user's cache) captures what goes into and comes back to every
MLP matrix, and takes inner products of its factors, here in its leanest use: no parameter asks for
a gradient, and the head runs only where a loss reads it. The paper's way takes two full backward
passes per fact and multiplies gradients. Two forwards, of old and new answers, with our GELU and
the head only where a loss reads it, are what no way can do without. All take the same model and
tokens and turn about; all scores are compared first. Random weights, float32, and ours in bfloat16
beside it; writes results/peers_avx512.json, or of whatever instructions the CPU has.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from lga_fast.files import cache_folder
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.tokens import target_row

try:
    from benchmarks import selection, timing
except ImportError:
    import selection
    import timing

PEER = "dattri-llm==0.1.0"
CASES = [  # shape, facts, tokens of prompt and answer
    ("gpt2", 8, 14, 3),
    ("gpt2", 32, 14, 3),
    ("gpt2", 4, 200, 20),
    ("llama", 8, 14, 3),
    ("llama", 4, 200, 20),
]
PAPER_FACTS = 8  # the paper's way is left out of cases with more, for time

Batch = tuple[torch.Tensor, torch.Tensor]  # ids [fact token], labels [fact answer]


def install() -> None:
    """Put the peer where it can be imported; what it needs beside torch, lga_fast needs too."""
    folder = cache_folder("peers") / PEER
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(folder), PEER], check=True)
    sys.path.append(str(folder))


def batches(model: EditableModel, facts: list[EditRequest]) -> list[Batch]:
    """Rows of the old and of the new answers; all are of one length."""
    both = []
    for answers in ([f.target_old or "" for f in facts], [f.target_new for f in facts]):
        rows = [
            target_row(model.tokenizer, fact.prompt, answer)
            for fact, answer in zip(facts, answers, strict=True)
        ]
        ids, labels = torch.tensor([r.ids for r in rows]), torch.tensor([r.target for r in rows])
        both.append((ids, labels))
    return both


def loss(model: EditableModel, batch: Batch) -> torch.Tensor:
    """Sum over facts of the mean loss of an answer's tokens."""
    ids, labels = batch
    count = labels.shape[1]
    logits = model.hf(input_ids=ids, use_cache=False, logits_to_keep=count + 1).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / count


def two_forwards(model: EditableModel, facts: list[EditRequest]) -> None:
    """What every way has to do at least."""
    with torch.no_grad(), model.frozen(), fast_gelu(model.hf):
        for batch in batches(model, facts):
            loss(model, batch)


class Dattri:
    """The peer's way; its hooks are on the model while it is in use."""

    def __init__(self, model: EditableModel) -> None:
        from dattri_llm import HookManager, HookManagerConfig
        from dattri_llm.gradient.ops import dot

        self._model, self._dot = model, dot
        paths = {module: path for path, module in model.hf.named_modules()}
        roles = list(model.family.matrices)
        self._names = [
            [paths[model.matrix(layer, role)] for role in roles] for layer in range(model.layers)
        ]
        names = [name for layer in self._names for name in layer]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # frozen parameters are meant
            config = HookManagerConfig(linear_io=names)
            self._hooks = HookManager(model.hf, config=config)
        self._hooks.remove()

    def __call__(self, model: EditableModel, facts: list[EditRequest]) -> torch.Tensor:
        """Scores [fact layer]."""
        gradients = []
        embedding = model.hf.get_input_embeddings()
        start = embedding.register_forward_hook(lambda m, a, out: out.requires_grad_())
        try:
            with (
                warnings.catch_warnings(action="ignore"),
                self._hooks.collect(deregister_on_exit=True),
                model.frozen(),
                torch.enable_grad(),
            ):
                for batch in batches(model, facts):
                    loss(model, batch).backward()
                    gradients.append(self._hooks.get_gradient())
        finally:
            start.remove()
        old, new = gradients
        by_name = {
            name: self._dot(old.data[name], new.data[name], old.layer_types[name])
            for layer in self._names
            for name in layer
        }
        return torch.stack([sum(by_name[n].double() for n in layer) for layer in self._names], 1)


def compare(
    config: PretrainedConfig, facts: int, prompt: int, answer: int, repeats: int
) -> dict[str, Any]:
    """CPU seconds of all ways, alternating, and how their scores differ."""
    model = selection.model_of(config, "cpu", torch.float32)
    requests = selection.facts_of(facts, prompt, answer, config.vocab_size)
    ways: dict[str, Callable[..., Any]] = {
        "ours": selection.ours,
        "dattri": Dattri(model),
        "two_forwards": two_forwards,
    }
    if facts <= PAPER_FACTS:
        ways["paper"] = selection.paper
    low = selection.model_of(config, "cpu", torch.bfloat16)
    ways["bfloat16"] = lambda _, requests: selection.ours(low, requests)
    scores = {name: way(model, requests) for name, way in ways.items()}  # also the warm-up
    scale = scores["ours"].square().mean(0).sqrt()
    apart = {
        name: float(((found - scores["ours"]) / scale).abs().max())
        for name, found in scores.items()
        if found is not None
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name, way in ways.items():
            if name == "paper" and turn:  # slow, and far from the others
                continue
            begun = time.process_time()
            way(model, requests)
            seconds[name].append(time.process_time() - begun)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    by_way = zip(*(seconds[n] for n in ("ours", "two_forwards", "dattri", "bfloat16")), strict=True)
    turns = list(by_way)
    return {
        "model": f"{config.model_type}, {model.layers} layers, width {config.hidden_size}",
        "facts": facts,
        "tokens": [prompt, answer],
        "cpu_seconds": seconds,
        "median_cpu_seconds": medians,
        "times_two_forwards": selection._spread([ours / least for ours, least, *_ in turns]),
        "times_faster_than_dattri": selection._spread(
            [theirs / ours for ours, _, theirs, _ in turns]
        ),
        "bfloat16_of_float32": selection._spread([low / ours for ours, *_, low in turns]),
        "differ_in_layer_rms": apart,
    }


def shape(name: str) -> PretrainedConfig:
    """GPT-2 124M's shape, or Llama's of the same depth and width."""
    if name == "gpt2":
        return GPT2Config(attn_implementation="sdpa")
    return LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        attn_implementation="sdpa",
    )


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    install()
    rows = []
    for name, facts, prompt, answer in CASES:
        rows.append(compare(shape(name), facts, prompt, answer, options.repeats))
        timing.say(f"{rows[-1]}")
    instructions = torch.backends.cpu.get_cpu_capability().lower()
    timing.write_result(f"peers_{instructions}", rows, selection.SEED)


if __name__ == "__main__":
    main()
