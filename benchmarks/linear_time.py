"""Time and memory per fact from 1,000 to 100,000 facts: `python benchmarks/linear_time.py`.

Facts are read, a layer is selected, each fact is edited and measured, on a random GPT-2 of two
layers and width 32, one CPU thread. Times are of the process (CPU), not of the clock, which others
on the machine and the disk stretch. The same work still takes from half to twice the median, and of
two processes one may be the slower throughout: all is done in one, with several runs of 1,000 facts
before and after each larger number. A fact should take at most 1.2x as long among 100,000 as among
those. Writes results/linear_time.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
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

SIZES = (10_000, 100_000)
FEW = 1_000
RUNS = 5  # with so many, before and after each larger number
REPEATS = 3  # of what takes less than a second; a least one would favour short times
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
        cpu, clock = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            result = work()
        done = 1e-6 * count * repeats
        measured[name] = {
            "cpu_us_per_fact": (time.process_time() - cpu) / done,
            "clock_us_per_fact": (time.perf_counter() - clock) / done,
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
    out.unlink(missing_ok=True)
    step("evaluate", lambda: lga_fast.evaluate(model, facts, "r_rome", out=out, **EDITING))
    return measured


def rows(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """What each step takes with these numbers of facts and with few, and how that grows."""
    torch.set_num_threads(1)
    ends = {"bos_token_id": None, "eos_token_id": None}
    model = tiny.model("gpt2", torch.float32, n_layer=2, **ends)
    runs: dict[int, list[dict[str, dict[str, float]]]] = {size: [] for size in (FEW, *sizes)}
    counts = [count for size in sizes for count in (*[FEW] * RUNS, size)] + [FEW] * RUNS
    with tempfile.TemporaryDirectory() as folder:
        steps(model, Path(folder), WARM_UP)
        for count in counts:
            runs[count].append(steps(model, Path(folder), count))
            timing.say(f"{count}: {runs[count][-1]}")
    table = []
    for name in runs[FEW][0]:
        cpu = {n: [run[name]["cpu_us_per_fact"] for run in some] for n, some in runs.items()}
        clock = {n: [run[name]["clock_us_per_fact"] for run in some] for n, some in runs.items()}
        peaks = {n: some[0][name]["peak_bytes"] for n, some in runs.items()}  # they only rise
        median = {n: statistics.median(some) for n, some in cpu.items()}
        table.append(
            {
                "step": name,
                "cpu_us_per_fact": median,
                f"cpu_us_per_fact_of_{FEW}": [min(cpu[FEW]), max(cpu[FEW])],
                "clock_us_per_fact": {n: statistics.median(some) for n, some in clock.items()},
                "peak_bytes": peaks,
                "cpu_growth": {n: median[n] / median[FEW] for n in sizes},
                "bytes_per_fact": (peaks[sizes[-1]] - peaks[FEW]) / (sizes[-1] - FEW),
            }
        )
    return table


def main() -> None:
    """All numbers of facts, or those of --facts, which writes nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--facts", type=int, nargs="+", help="try these numbers, and print")
    options = parser.parse_args()
    if options.facts:
        sys.stdout.write(json.dumps(rows(tuple(options.facts)), indent=1) + "\n")
        return
    timing.write_result("linear_time", rows(SIZES), SEED)


if __name__ == "__main__":
    main()
