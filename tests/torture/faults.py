"""Runs that are killed, or that cannot write: forked, so that the model is loaded once.

python -m tests.torture.faults --kills 3 --disk 4 --seed 0 prints what was done and what failed.
"""

from __future__ import annotations

import argparse
import collections
import errno
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from lga_fast.errors import LgaFastError
from tests.torture.jobs import JOBS, Jobs, outcome

REFUSED, RAW = 3, 4  # exit codes of a child
HANGS = 120  # seconds until a child counts as hung: it prints its stack and ends


def start(work: Callable[[], None]) -> tuple[int, int]:
    """A child that does this, and where to read what it says."""
    reads, writes = os.pipe()
    if child := os.fork():
        os.close(writes)
        return child, reads
    # dump_traceback_later would wait for the thread of the parent's, which no fork has.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(HANGS)
    code, said = 0, ""
    try:
        with warnings.catch_warnings(action="ignore"):
            work()
    except LgaFastError as error:
        code, said = REFUSED, str(error)
    except BaseException as error:
        code, said = RAW, f"{type(error).__name__}: {error}"
    os.write(writes, said.encode("utf-8", "replace")[:4000])
    os._exit(code)


def end(child: int, reads: int) -> tuple[int, str]:
    """Its exit code, and what it said."""
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


class Faults:
    """Kills and disk faults so far, by job and kind, and what failed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(f"faults {seed}")
        self.kills: collections.Counter[str] = collections.Counter()
        self.disk: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        # tqdm's lock is a semaphore that forks share: a child killed with it stops all others.
        transformers.logging.disable_progress_bar()
        self.jobs = Jobs(folder / "model")
        self.whole: dict[str, tuple[float, dict[str, Any]]] = {}  # seconds and outcome, by job

    def _fresh(self, name: str) -> Path:
        at = self.folder / "work"
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        self.jobs.before(name, at)
        return at

    def _expected(self, name: str) -> tuple[float, dict[str, Any]]:
        if name not in self.whole:
            at, began = self._fresh(name), time.perf_counter()
            code, said = end(*start(lambda: getattr(self.jobs, name)(at)))
            assert code == 0, said
            self.whole[name] = time.perf_counter() - began, outcome(at)
        return self.whole[name]

    def _finish(self, name: str, at: Path, what: str) -> None:
        """Run to the end, and compare."""
        code, said = end(*start(lambda: getattr(self.jobs, name)(at)))
        if code:
            self.failures.append(f"{name}, {what}: went on with exit code {code}: {said[:300]}")
            return
        expected, found = self._expected(name)[1], outcome(at)
        if found != expected:
            both = {*found, *expected}
            differ = sorted(n for n in both if found.get(n) != expected.get(n))
            self.failures.append(f"{name}, {what}: differs in {differ[:5]}")

    def kill(self, name: str, count: int) -> None:
        """Kill a job so often, at random times; what is left of it goes on, to the same outcome."""
        seconds, _ = self._expected(name)
        at, number = self._fresh(name), 0
        while number < count:
            child, reads = start(partial(getattr(self.jobs, name), at))
            time.sleep(self.draw.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            code, said = end(child, reads)
            if code == -signal.SIGKILL:
                self.kills[name] += 1
                number += 1
            else:  # it was done before
                if code:
                    self.failures.append(f"{name} after {number} kills: {code}: {said[:300]}")
                at = self._fresh(name)
        self._finish(name, at, f"after {count} kills")

    def fail_writes(self, name: str, kind: str) -> None:
        """Let writes of a job fail somewhere; it says so, and goes on once they do not."""
        expected = self._expected(name)[1]
        at, before = self._fresh(name), outcome(self.folder / "work")
        size = sum(len(v) if isinstance(v, bytes) else 2000 for v in expected.values())
        limit, number = self.draw.randrange(max(1, size)), self.draw.randrange(4)

        def work() -> None:
            _inject(kind, limit, number)
            getattr(self.jobs, name)(at)

        code, said = end(*start(work))
        self.disk[f"{kind}, {name}"] += 1
        what = f"{kind}, {limit if kind == 'full disk' else number}"
        if code not in (0, REFUSED) or (code == REFUSED and "\n\n" in said):
            self.failures.append(f"{name}, {what}: exit code {code}: {said[:300]}")
        if code == REFUSED and name in ("save", "adapter"):
            left = outcome(at)
            gone = kind == "rename fails" and "adapter/adapter_config.json" not in left
            if left not in (before, expected) and not gone:
                self.failures.append(f"{name}, {what}: neither the old nor the new is whole")
        self._finish(name, at, f"after {what}")

    def all(self, kills: int, disk: int, jobs: Sequence[str] = JOBS) -> None:
        """So many kills of each job, and so many disk faults of each job and kind."""
        for name in jobs:
            if kills:
                self.kill(name, kills)
            for kind in KINDS:
                for _ in range(disk):
                    self.fail_writes(name, kind)


KINDS = ("full disk", "fsync fails", "rename fails", "open fails")


def _inject(kind: str, limit: int, number: int) -> None:
    """From now on, in this process, no file has more bytes, or calls of a kind fail."""
    if kind == "full disk":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return
    calls = 0
    places = {
        "fsync fails": (os, "fsync", errno.ENOSPC),
        "rename fails": (Path, "replace", errno.EROFS),
        "open fails": (Path, "open", errno.EROFS),
    }
    owner, function, code = places[kind]
    real = getattr(owner, function)

    def failing(*args: Any, **options: Any) -> Any:
        nonlocal calls
        reads = kind == "open fails" and not set("wax+") & set("".join(map(str, args[1:2])) or "r")
        calls += not reads
        if not reads and calls > number:
            raise OSError(code, os.strerror(code))
        return real(*args, **options)

    setattr(owner, function, failing)


def main() -> None:
    """Some of each, printed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=3, help="of each job that can be resumed")
    parser.add_argument("--disk", type=int, default=1, help="of each job and kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(Path(folder), options.seed)
        faults.all(options.kills, options.disk, options.jobs.split(","))
    print(json.dumps({n: getattr(faults, n) for n in ("kills", "disk", "failures")}, indent=1))
    raise SystemExit(bool(faults.failures))


if __name__ == "__main__":
    main()
