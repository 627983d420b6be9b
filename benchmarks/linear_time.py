"""Time and memory per fact from 1,000 to 100,000 facts: `python benchmarks/linear_time.py`.

Facts are read, a layer is selected, each fact is edited and measured, on a random GPT-2 of two
layers and width 32, one CPU thread. Each number of facts has a process of its own, which first does
everything with a few. Times are of the process (CPU), not of the clock, which others on the machine
and the disk stretch; these still differ by a fifth from run to run, so that the least counts. A
fact should take at most 1.2x as long among 100,000 as among 1,000.
Writes results/linear_time.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import lga_fast
from lga_fast import provenance
from lga_fast.evaluation.results_file import CaseFile
from lga_fast.evaluation_records import CaseResult
from lga_fast.models import EditableModel

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import tiny

try:
    from benchmarks import timing
except ImportError:
    import timing

SIZES = (1_000, 10_000, 100_000)
REPEATS = (
    3  # of each number but the largest, and of what takes less than a second: the least counts
)
WARM_UP = 300
SEED = 0
CITIES = ("France", "Italy", "Berlin", "Vienna", "Paris", "Rome", "Ann Lee")
# One step of the optimiser: what grows with the number of facts is all that is around it.
EDITING = {"layer": 0, "contexts": ("",), "steps": 1, "metrics": ("rewrite",), "chunk": 256}


def write_facts(path: Path, count: int, one_id: bool = False) -> None:
    """So many facts with prompts of equal length; `one_id`: with one case_id among them."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            city, target = CITIES[i % 7], CITIES[i // 7 % 7]
            record = {"case_id": "one" if one_id else f"{i:06}", "subject": city}
            record |= {"prompt": f"The capital {i:06} of {city} is", "target_new": target}
            file.write(json.dumps(record) + "\n")


def file_results(path: Path, count: int) -> None:
    """Write results as an evaluation does, 32 at a time."""
    ids = [str(i) for i in range(count)]
    file = CaseFile(path, {}, {}, ids)
    values = {"rewrite": 1.0}
    for start in range(0, count, 32):
        few = ids[start : start + 32]
        file.add([CaseResult(one, 0, values, values, (), 0.1, 0.1, 1) for one in few])


def steps(model: EditableModel, folder: Path, count: int) -> dict[str, dict[str, float]]:
    """What each step takes with so many facts."""
    measured: dict[str, dict[str, float]] = {}

    def step(name: str, work: Callable[[], Any], repeats: int = 1) -> Any:
        seconds = []
        for _ in range(repeats):
            cpu, clock = time.process_time(), time.perf_counter()
            result = work()
            seconds.append((time.process_time() - cpu, time.perf_counter() - clock))
        measured[name] = {
            "cpu_us_per_fact": 1e6 * min(seconds)[0] / count,
            "clock_us_per_fact": 1e6 * min(seconds)[1] / count,
            "peak_bytes": provenance.peak_bytes(model.device),  # so far
        }
        return result

    def filed() -> None:
        paths["results"].unlink(missing_ok=True)
        file_results(paths["results"], count)

    paths = {name: folder / f"{name} {count}.jsonl" for name in ("facts", "one id", "results")}
    write_facts(paths["facts"], count)
    write_facts(paths["one id"], count, one_id=True)
    step("load, one case_id", lambda: lga_fast.load_edits("jsonl", paths["one id"]), REPEATS)
    facts = step("load", lambda: lga_fast.load_edits("jsonl", paths["facts"]), REPEATS)
    step("results file", filed, REPEATS)
    step("select", lambda: lga_fast.select_layer(model, facts, selector="lga"))
    out = folder / f"evaluation {count}.jsonl"
    step("evaluate", lambda: lga_fast.evaluate(model, facts, "r_rome", out=out, **EDITING))
    return measured


def run(count: int) -> dict[str, dict[str, float]]:
    """`steps` in this process, after a warm-up."""
    torch.set_num_threads(1)
    ends = {"bos_token_id": None, "eos_token_id": None}
    model = tiny.model("gpt2", torch.float32, n_layer=2, **ends)
    with tempfile.TemporaryDirectory() as folder:
        steps(model, Path(folder), min(count, WARM_UP))
        return steps(model, Path(folder), count)


def rows(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """What each step takes with these numbers of facts, and how that grows."""
    runs: dict[int, list[dict[str, dict[str, float]]]] = {size: [] for size in sizes}
    for size in [*sizes[:-1]] * (REPEATS - 1) + list(sizes):
        command = [sys.executable, __file__, "--facts", str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        runs[size].append(json.loads(done.stdout))
        timing.say(f"{size}: {done.stdout}")
    table = []
    for name in runs[sizes[0]][0]:
        row: dict[str, Any] = {"step": name}
        for key in ("cpu_us_per_fact", "clock_us_per_fact", "peak_bytes"):
            row[key] = {n: min(one[name][key] for one in runs[n]) for n in sizes}
        cpu, peak = row["cpu_us_per_fact"], row["peak_bytes"]
        row["cpu_growth"] = cpu[sizes[-1]] / cpu[sizes[0]]
        row["bytes_per_fact"] = (peak[sizes[-1]] - peak[sizes[0]]) / (sizes[-1] - sizes[0])
        table.append(row)
    return table


def main() -> None:
    """All numbers of facts, or with --facts one of them, here."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--facts", type=int, help="measure in this process, and print")
    options = parser.parse_args()
    if options.facts:
        sys.stdout.write(json.dumps(run(options.facts)))
        return
    timing.write_result("linear_time", rows(SIZES), SEED)


if __name__ == "__main__":
    main()
