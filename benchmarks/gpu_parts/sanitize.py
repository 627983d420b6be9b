"""compute-sanitizer's tools on the small grid of `check`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GPU = Path(__file__).resolve().parents[1] / "gpu.py"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ERRORS = 9  # exit code where a tool found something


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """One verdict by each tool; fails at the end if one found an error."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if device != "cuda" or sanitizer is None:
        yield {"ran": False, "why": "there is no CUDA device or no compute-sanitizer"}
        return
    # Every tensor in an allocation of its own: in torch's cache an access past its end is legal.
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    ours = ["--kernel-regex", "kns=lga_fast", "--report-api-errors", "no"]
    found = []
    for tool in TOOLS:
        started = time.perf_counter()
        check = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(GPU.parent)!r})"]
        check[-1] += "; import gpu; from gpu_parts.check import rows; list(rows('cuda', True))"
        command = [sanitizer, "--tool", tool, *ours, "--error-exitcode", str(ERRORS), *check]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=110
            )
        except subprocess.TimeoutExpired:
            yield {"tool": tool, "ran": False, "why": "ended after 110 s"}
            continue
        said = f"{done.stdout}{done.stderr}".strip()
        yield {"tool": tool, "ran": "ERROR SUMMARY" in said, "exit_code": done.returncode} | {
            "seconds": time.perf_counter() - started,
            "said": said[-1500:],
        }
        found += [tool] * (done.returncode == ERRORS)
    if found:
        raise SystemExit(f"errors by {', '.join(found)}; see the rows")
