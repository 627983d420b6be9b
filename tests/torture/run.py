"""The long form of the torture tests: as many faults as time allows, and a report of them.

python -m tests.torture.run --seconds 600 --seed 0 --jobs 2 --out benchmarks/results/torture.json
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import timing
from lga_fast.files import write_atomic
from tests.torture import doors, faults, hostile, operations
from tests.torture.interrupts import Interrupt, places
from tests.torture.model_state import differences, state

_PLACES = 20  # in an operation, before the next one's turn
_INPUTS = 40  # at a door, meanwhile
_KILLS = 6  # of a job, in some turns
_HANGS = 900  # seconds of a turn after which it ends with where every thread is
_COUNTS = ("inputs", "exceptions_by_operation", "exceptions", "kills", "disk_faults")


class Report:
    """Faults injected by operation and kind, inputs tried by door, and what failed."""

    def __init__(self) -> None:
        self.counts: dict[str, collections.Counter[str]] = {
            name: collections.Counter() for name in _COUNTS
        }
        self.failures: list[str] = []

    def add(self, plain: dict[str, Any]) -> None:
        """Another one's, as `plain` gave it."""
        for name, count in self.counts.items():
            count.update(plain[name])
        self.failures += plain["failures"]

    def plain(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        totals = {name: count.total() for name, count in self.counts.items()}
        del totals["exceptions_by_operation"]
        by_name = {name: dict(sorted(count.items())) for name, count in self.counts.items()}
        return {"in_all": totals, **by_name, "failures": self.failures}


def interrupt(report: Report, kind: str, operation: Any, seed: int) -> None:
    """Interrupt an operation at some places, and compare the model with what it was."""
    with tempfile.TemporaryDirectory() as folder:
        model = operations.make(kind, Path(folder))
        work = partial(operations.quietly, operation, model)
        work()
        before, name = state(model), f"{operation.__name__} of {kind}"
        for number, error in places(work, _PLACES, seed):
            one = Interrupt(number, error)
            one.run(work)
            report.counts["exceptions_by_operation"][name] += one.raised
            report.counts["exceptions"][error.__name__] += one.raised
            if changed := differences(before, state(model)):
                where = ":".join(map(str, one.lines[-1]))
                report.failures.append(f"{name}: {error.__name__} at {where}: {changed}")
                model.restore()


def ask_doors(report: Report, seed: int) -> None:
    """Some inputs at each door."""
    report.counts["inputs"] += hostile.tried(seed, report.failures, _INPUTS)
    report.counts["inputs"] += doors.tried(seed, report.failures, _INPUTS)


def inject(report: Report, seed: int) -> None:
    """Kill every job, and let its writes fail in every way."""
    with tempfile.TemporaryDirectory() as folder:
        some = faults.Faults(Path(folder), seed)
        some.all(_KILLS, 1)
    report.counts["kills"] += some.kills
    report.counts["disk_faults"] += some.disk
    report.failures += [f"seed {seed}: {failure}" for failure in some.failures]


def tried(seconds: float, first: int) -> dict[str, Any]:
    """What was tried in so many seconds from a seed on."""
    report, began = Report(), time.monotonic()
    steps = [
        partial(interrupt, kind=kind, operation=one)
        for kind, some in operations.OPERATIONS.items()
        for one in some
    ]
    for turn in itertools.count():
        for number, step in enumerate(steps):
            if time.monotonic() - began > seconds:
                return report.plain()
            seed = random.Random(f"{first} {turn} {number}").getrandbits(32)
            faulthandler.dump_traceback_later(_HANGS, exit=True)
            step(report, seed=seed)
            ask_doors(report, seed)
            if number == 0 and turn % 2 == 0:
                inject(report, seed)
    raise AssertionError


def main() -> None:
    """Run until time is up."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes, one seed each")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/torture.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if options.jobs == 1:
        with warnings.catch_warnings(action="ignore"):
            report = tried(options.seconds, options.seed)
    else:
        report = together(options.seconds, options.seed, options.jobs)
    seeds = list(range(options.seed, options.seed + options.jobs))
    where = timing.environment(options.seed)
    about = {"seeds": seeds, "seconds": options.seconds, "environment": where}
    write_atomic(options.out, json.dumps(about | report, indent=1) + "\n")
    print(json.dumps(report["in_all"] | {"failures": report["failures"]}, indent=1))
    raise SystemExit(bool(report["failures"]))


def together(seconds: float, seed: int, jobs: int) -> dict[str, Any]:
    """The reports of several processes as one."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{number}.json" for number in range(jobs)]
        command = [sys.executable, "-m", "tests.torture.run", "--seconds", str(seconds)]
        children = [
            subprocess.Popen([*command, "--seed", str(seed + number), "--out", str(out)])
            for number, out in enumerate(outs)
        ]
        for child, out in zip(children, outs, strict=True):
            if child.wait() not in (0, 1):
                raise SystemExit(f"a process of the run ended with exit code {child.returncode}")
            report.add(json.loads(out.read_text()))
    return report.plain()


if __name__ == "__main__":
    main()
