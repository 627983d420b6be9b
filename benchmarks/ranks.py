"""One selection by several processes against one: `python benchmarks/ranks.py`.

GPT-2 124M's shape with random weights in float32, the atlas's facts, old answers from the model, as
in `lga-fast select`: one process with one thread, and `--ranks` processes under torchrun, each with
one thread and a core of its own. The two alternate, `--repeats` times. The result has the seconds
of scoring (of the slowest rank), of computing the old answers and scoring, and of the whole command
including its start. For comparison it has how many more matrix products that many processes compute
at once than one process, because cores share caches and memory. Writes results/ranks_cpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config

import lga_fast

try:
    from benchmarks import selection, timing
except ImportError:
    import selection
    import timing

SEED = 0
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
# Counts products of a GPT-2 MLP's sizes for some seconds, from a given time on.
PRODUCTS = """
import sys, time, torch
begin, seconds = map(float, sys.argv[1:])
x, weight, count = torch.randn(1024, 768), torch.randn(768, 3072), 0
x @ weight
time.sleep(max(0, begin - time.time()))
while time.time() < begin + seconds:
    x @ weight
    count += 1
print(count)
"""


def save(folder: Path, config: GPT2Config) -> None:
    """A random model with the atlas's tokenizer, for `lga_fast.load`."""
    selection.model_of(config, "cpu", torch.float32).hf.save_pretrained(folder)
    lga_fast.load("atlas", device="cpu").tokenizer.save_pretrained(folder)


def select(folder: Path, facts: int, ranks: int) -> tuple[dict[str, Any], dict[str, float]]:
    """The ranking computed by `ranks` processes, and the seconds it took."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] * (ranks > 1)
    arguments = ["--model", str(folder), "--data", "atlas", "--proxy", str(facts)]
    command = [sys.executable, *launcher, "-m", "lga_fast", "select", *arguments]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--device", "cpu", "--json"],
        env=os.environ | THREADS,
        capture_output=True,
        text=True,
        check=False,
    )
    whole = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    ranking = json.loads(done.stdout)
    provenance = ranking["provenance"]
    return ranking, {
        "scoring": provenance["seconds_scoring"],
        "answering_and_scoring": provenance["seconds_old_answers"] + provenance["seconds_scoring"],
        "command": whole,
    }


def products(processes: int, seconds: float = 5.0) -> int:
    """How many matrix products `ranks` processes compute at once."""
    command = [sys.executable, "-c", PRODUCTS, str(time.time() + 10), str(seconds)]
    running = [
        subprocess.Popen(command, env=os.environ | THREADS, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return sum(int(one.communicate()[0]) for one in running)


def compare(config: GPT2Config, facts: int, ranks: int, repeats: int) -> dict[str, Any]:
    """Seconds of both, their ratios, and the largest difference of the scores."""
    runs: dict[int, list[tuple[dict[str, Any], dict[str, float]]]] = {1: [], ranks: []}
    with tempfile.TemporaryDirectory(prefix="lga_fast-benchmark-") as name:
        save(Path(name), config)
        for _ in range(repeats):
            for size, results in runs.items():
                results.append(select(Path(name), facts, size))
                timing.say(f"{size} processes: {results[-1][1]}")
    products_at_once = [products(ranks) / products(1) for _ in range(repeats)]
    one, several = (runs[size][0][0] for size in (1, ranks))
    scores, theirs = np.array(one["scores"]), np.array(several["scores"])
    seconds = {str(size): [took for _, took in results] for size, results in runs.items()}
    return {
        "model": f"{config.model_type}, {config.n_layer} layers, width {config.n_embd}",
        "dtype": "float32",
        "facts": one["requests"],
        "ranks": ranks,
        "cores": os.cpu_count(),
        "seconds": seconds,
        "times_faster": {
            part: selection._spread(
                [
                    alone[part] / shared[part]
                    for alone, shared in zip(seconds["1"], seconds[str(ranks)], strict=True)
                ]
            )
            for part in ("scoring", "answering_and_scoring", "command")
        },
        "products_times_more": selection._spread(products_at_once),
        "largest_relative_difference": float(np.abs(theirs / scores - 1).max()),
        "same_layer": one["layer"] == several["layer"],
        "same_order": one["order"] == several["order"],
    }


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    row = compare(GPT2Config(), options.facts, options.ranks, options.repeats)
    timing.say(json.dumps(row, indent=1))
    timing.write_result("ranks_cpu", [row], SEED)


if __name__ == "__main__":
    main()
