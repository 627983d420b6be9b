"""`tests/ops`, as they are, in a process of their own whose kernels are others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.cuda_on_cpu.build import ROOT

# It starts processes that load libraries, which are not the ones under test here.
LEFT_OUT = "tests/ops/test_library.py"
PASSED, FAILED = 0, 1  # exit codes of pytest; positive ones beside them: no test has judged
LIBRARIES = {"address": ["asan", "ubsan"], "undefined": ["ubsan"], "thread": ["tsan"]}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:report_signal_unsafe=0",
}


def run_ops_tests(
    *arguments: str,
    emulated: Path | None = None,
    cpu_kernels: Path | None = None,
    sanitizer: str = "",
    preload: tuple[Path, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Runs them on the `emulated` library, or on `_C` of the folder `cpu_kernels`."""
    env = {k: v for k, v in os.environ.items() if k != "LGA_FAST_NO_EXT"} | OPTIONS
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    env["LGA_FAST_EMULATED"] = str(emulated or "")
    env["LGA_FAST_CPU_KERNELS"] = str(cpu_kernels or "")
    if sanitizer:
        libraries = [_library(f"lib{name}.so") for name in LIBRARIES[sanitizer]]
        env["LD_PRELOAD"] = " ".join([*libraries, *map(str, preload)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.cuda_on_cpu.plugin"]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "--ignore", LEFT_OUT]
    if sanitizer:
        command.append("--capture=no")  # or its last words are lost with the process
    return subprocess.run(
        [*command, *(arguments or ["tests/ops"])],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def found_a_bug(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a test has failed, or the process has died of a memory error."""
    return done.returncode == FAILED or done.returncode < 0


def _library(name: str) -> str:
    return subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()
