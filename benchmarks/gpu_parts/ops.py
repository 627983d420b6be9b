"""tests/ops on the device."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """The last line of pytest."""
    which = ["tests/ops/test_reference.py"] if small else ["tests/ops", "-m", device]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *which]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    yield {"exit_code": done.returncode, "summary": lines[-1] if lines else done.stderr[-1000:]}
    if done.returncode:
        raise SystemExit("\n".join(lines)[-3000:])
