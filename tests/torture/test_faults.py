"""Killed, or kept from writing: the old is there or the new, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def faults(*arguments: str) -> dict:
    """What `python -m tests.torture.faults` did; in a process of its own, which forks."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests"), *sys.path])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "tests.torture.faults", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert not found["failures"], (found["failures"], done.stderr[-2000:])
    return found


def test_files_that_are_replaced():
    done = faults("--kills", "2", "--disk", "1", "--jobs", "save,adapter,merge")
    assert sum(done["kills"].values()) == 6 and sum(done["disk"].values()) == 12


def test_runs_that_are_resumed():
    """The kills of evaluate are in tests/evaluation/test_resuming.py."""
    done = faults("--kills", "1", "--disk", "0", "--jobs", "select,sweep")
    assert sum(done["kills"].values()) == 2
