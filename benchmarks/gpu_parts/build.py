"""The native part, built from nothing for the device that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """Seconds of the build, and what serves each device then."""
    row: dict[str, Any] = {}
    if not small:
        if device == "cuda":  # for one architecture: half the time
            version = ".".join(map(str, torch.cuda.get_device_capability()))
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", version)
        shutil.rmtree(ROOT / "build", ignore_errors=True)
        started = time.perf_counter()
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(command, cwd=ROOT, check=True)
        row = {"seconds": time.perf_counter() - started}
    from lga_fast import ops

    yield row | {"kernels": ops.kernels(), "built": ops.build_info()}
    if device == "cuda" and not ops.kernels()["cuda"].startswith("CUDA"):
        raise SystemExit(f"the CUDA kernels do not serve: {ops.kernels()['cuda']}")
