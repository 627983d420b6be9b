"""A checkpoint that does not fit, scored by reading it twice: `python benchmarks/streamed.py`.

Writes a random bfloat16 checkpoint of Llama's shape to a temporary folder (6 GB; `--layers` and the
other sizes change that), scores it under a memory budget in a process of its own, and deletes it.
The result has the peak of anonymous memory (RssAnon, sampled every 5 ms), the bytes read (by the
system's count and by our own), and the wall time against the sum over blocks of the longer of
reading and computing, all from the same run. `--resident` also scores it with resident weights and
compares. Writes results/streamed.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

import lga_fast
from lga_fast.scoring import estimate_cost
from lga_fast.scoring.options import ScoringOptions
from lga_fast.streaming.streamed_model import StreamedModel

try:
    from benchmarks import selection, timing
except ImportError:
    import selection
    import timing

SEED = 0


def make(folder: Path, config: LlamaConfig) -> int:
    """Write a random checkpoint, one file per block; returns its bytes."""
    d, inner, words = config.hidden_size, config.intermediate_size, config.vocab_size
    generator = torch.Generator().manual_seed(SEED)

    def random(*shape: int) -> torch.Tensor:
        drawn = torch.empty(shape, dtype=torch.bfloat16)
        return drawn.normal_(0, shape[-1] ** -0.5, generator=generator)

    def norm() -> torch.Tensor:
        return torch.ones(d, dtype=torch.bfloat16)

    def block(layer: int) -> dict[str, torch.Tensor]:
        part = {f"self_attn.{x}_proj.weight": random(d, d) for x in "qkvo"}
        part |= {f"mlp.{x}_proj.weight": random(inner, d) for x in ("gate", "up")}
        part |= {"mlp.down_proj.weight": random(d, inner)}
        part |= {f"{x}_layernorm.weight": norm() for x in ("input", "post_attention")}
        return {f"model.layers.{layer}.{name}": tensor for name, tensor in part.items()}

    ends = {"model.embed_tokens.weight": random(words, d), "lm_head.weight": random(words, d)}
    ends["model.norm.weight"] = norm()
    parts = chain([ends], map(block, range(config.num_hidden_layers)))
    where, total = {}, 0
    for number, part in enumerate(parts):
        name = f"model-{number:05}.safetensors"
        save_file(part, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(part, name)
        total += sum(tensor.nbytes for tensor in part.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.save_pretrained(folder)
    return total


class Watched:
    """Seconds that a streamed model reads and computes, by block, over both sweeps."""

    def __init__(self, model: StreamedModel) -> None:
        self.reading: list[float] = []
        self.computing: list[float] = []
        runner = model.block_runner()
        read, walk = model.shards.read, runner.walk

        def timed_read(names: Any) -> Any:
            begun = time.perf_counter()
            tensors = read(names)
            self.reading.append(time.perf_counter() - begun)
            return tensors

        def timed_walk(layers: Any, to_head: bool = False) -> Any:
            for layer in walk(layers, to_head):
                begun = time.perf_counter()
                yield layer
                self.computing.append(time.perf_counter() - begun)

        model.shards.read, runner.walk = timed_read, timed_walk


class Peak(threading.Thread):
    """The peak of this process's anonymous memory while the thread runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.done = 0, threading.Event()

    def run(self) -> None:
        """Sample until `done`."""
        while not self.done.wait(0.005):
            self.most = max(self.most, anonymous())


def anonymous() -> int:
    """Bytes of anonymous memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def characters_read() -> int:
    """Bytes that this process has read so far, from disk or from the page cache."""
    return int(Path("/proc/self/io").read_text().split()[1])


def score(folder: str, weights: str, budget: str, facts: int) -> dict[str, Any]:
    """Score random facts and measure the cost; runs in a process of its own."""
    model = lga_fast.load(
        folder,
        tokenizer=selection.Numbers(),
        device="cpu",
        weights=weights,  # type: ignore[arg-type]
        memory_budget=budget if weights == "streamed" else None,
    )
    requests = selection.facts_of(facts, 14, 3, model.config.vocab_size)
    plan = estimate_cost(model, requests, ScoringOptions("ground_truth"))
    watched = Watched(model) if isinstance(model, StreamedModel) else None
    own = model.shards.bytes_read if isinstance(model, StreamedModel) else 0
    peak, before = Peak(), characters_read()
    peak.start()
    wall, cpu = time.perf_counter(), time.process_time()
    scores = lga_fast.score_layers(model, requests, old="ground_truth", show_progress=False)
    row: dict[str, Any] = {
        "weights": weights,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }
    peak.done.set()
    row |= {
        "peak_anonymous_bytes": peak.most,
        "bytes_read": characters_read() - before,
        "batches": plan.batches,
        "scores": {name: dot.tolist() for name, dot in scores.dot.items()},
    }
    if isinstance(model, StreamedModel) and watched and plan.streaming:
        # The head is read midway, while the last block of the first sweep runs.
        head = watched.reading.pop(model.layers)
        bound = sum(map(max, watched.reading, watched.computing))
        bound += max(0.0, head - watched.computing[model.layers - 1])
        row |= {
            "bytes_read_by_our_count": model.shards.bytes_read - own,
            "block_reads": len(watched.reading),
            "bytes_needed": plan.streaming.read_bytes,
            "seconds_reading": sum(watched.reading) + head,
            "seconds_computing": sum(watched.computing),
            "seconds_bound": bound,
        }
        assert len(watched.reading) == len(watched.computing) == 2 * model.layers
    return row


def measure(config: LlamaConfig, budget: str, facts: int, resident: bool) -> dict[str, Any]:
    """One row of the results: a checkpoint written, scored and deleted."""
    with tempfile.TemporaryDirectory(prefix="lga_fast-benchmark-") as folder:
        size = make(Path(folder), config)
        timing.say(f"checkpoint of {size / 1e9:.2f} GB, {config.num_hidden_layers} blocks")
        kinds = ["streamed", *["resident"] * resident]
        rows = {kind: _child(folder, kind, budget, facts) for kind in kinds}
    row = rows["streamed"]
    scores = row.pop("scores")
    if resident:
        row["resident"] = rows["resident"]
        row["same_bits_as_resident"] = rows["resident"].pop("scores") == scores
    return {
        "checkpoint_bytes": size,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "facts": facts,
        "memory_budget": budget,
        # Below 1, because the embedding is read by rows and the head once.
        "read_to_twice_the_checkpoint": row["bytes_read"] / (2 * size),
        "read_to_needed": row["bytes_read"] / row["bytes_needed"],
        "wall_to_bound": row["seconds"] / row["seconds_bound"],
        **row,
    }


def _child(folder: str, weights: str, budget: str, facts: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", folder, weights, budget, str(facts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = {"layers": 36, "hidden": 2560, "inner": 6912, "vocabulary": 32000, "facts": 32}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--budget", default="1GiB")
    parser.add_argument("--resident", action="store_true")
    parser.add_argument("--child", nargs=4, metavar="ARGUMENT", help=argparse.SUPPRESS)
    return parser.parse_args()


def shape(layers: int, hidden: int, inner: int, vocabulary: int) -> LlamaConfig:
    """Llama's shape with these sizes and heads of 64."""
    return LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=inner,
        vocab_size=vocabulary,
        num_attention_heads=max(1, hidden // 64),
        dtype="bfloat16",
        eos_token_id=None,
        bos_token_id=None,
    )


def main() -> None:
    """Run as the module's docstring says."""
    options = _options()
    torch.set_num_threads(1)  # in the parent too, which records the environment
    if options.child:
        folder, weights, budget, facts = options.child
        timing.say(json.dumps(score(folder, weights, budget, int(facts))))
        return
    config = shape(options.layers, options.hidden, options.inner, options.vocabulary)
    row = measure(config, options.budget, options.facts, options.resident)
    for name, value in row.items():
        timing.say(f"{name}: {value}")
    timing.write_result("streamed", [row], SEED)


if __name__ == "__main__":
    main()
