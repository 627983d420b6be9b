"""Killed, or kept from writing: the old is there or the new, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which forks."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests"), *sys.path])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def faults(*arguments: str) -> dict:
    """What `python -m tests.torture.faults` did."""
    done = python("-m", "tests.torture.faults", *arguments)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert not found["failures"], (found["failures"], done.stderr[-2000:])
    return found


HANGING = """
import faulthandler, threading
from tests.torture import faults
faulthandler.dump_traceback_later(60, exit=True)  # as make torture has
faults.HANGS = 1
print(faults.end(*faults.start(threading.Event().wait)))
"""


def test_a_child_that_hangs_ends():
    done = python("-c", HANGING)
    assert done.stdout == "(-14, '')\n" and "in wait" in done.stderr


def test_files_that_are_replaced():
    done = faults("--kills", "2", "--disk", "1", "--jobs", "save,adapter,merge")
    assert sum(done["kills"].values()) == 6 and sum(done["disk"].values()) == 12


def test_runs_that_are_resumed():
    """The kills of evaluate are in tests/evaluation/test_resuming.py."""
    done = faults("--kills", "1", "--disk", "0", "--jobs", "select,sweep")
    assert sum(done["kills"].values()) == 2
