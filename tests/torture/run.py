"""The long form of the torture tests: as many faults as time allows, and a report of them.

python -m tests.torture.run --seconds 600 --seed 0 --out benchmarks/results/torture.json
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import random
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lga_fast import provenance
from tests.torture import hostile, operations
from tests.torture.interrupts import Interrupt, places
from tests.torture.model_state import differences, state

_PLACES = 20  # in an operation, before the next one's turn


class Report:
    """Faults injected by operation and kind, inputs tried by door, and what failed."""

    def __init__(self) -> None:
        self.faults: collections.Counter[str] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.inputs: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    def plain(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return {
            "inputs": dict(self.inputs),
            "inputs_in_all": self.inputs.total(),
            "faults": dict(self.faults),
            "kinds": dict(self.kinds),
            "faults_in_all": self.faults.total(),
            "failures": self.failures,
        }


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
            report.faults[name] += one.raised
            report.kinds[error.__name__] += one.raised
            if changed := differences(before, state(model)):
                where = ":".join(map(str, one.lines[-1]))
                report.failures.append(f"{name}: {error.__name__} at {where}: {changed}")
                model.restore()


def main() -> None:
    """Run until time is up."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/torture.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    report, began = Report(), time.monotonic()
    pairs = [(kind, one) for kind, some in operations.OPERATIONS.items() for one in some]
    for turn in itertools.count():
        for kind, operation in pairs:
            if time.monotonic() - began > options.seconds:
                break
            seed = random.Random(f"{options.seed} {turn} {kind}").getrandbits(32)
            interrupt(report, kind, operation, seed)
            report.inputs += hostile.tried(seed, report.failures)
        else:
            continue
        break
    about = {"seed": options.seed, "seconds": options.seconds, "commit": provenance.commit()}
    options.out.write_text(json.dumps(about | report.plain(), indent=1) + "\n")
    print(json.dumps(report.plain(), indent=1))
    raise SystemExit(bool(report.failures))


if __name__ == "__main__":
    main()
