"""What the benchmarks share: medians with spread, the environment, atomic results files."""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lga_fast.files import write_atomic

RESULTS = Path(__file__).parent / "results"
_WRITTEN = ("benchmarks/results", "benchmarks/RESULTS.md", "README.md", "docs")


def environment(seed: int | None = None) -> dict[str, Any]:
    """What it takes to reproduce a number: commit, versions, device, threads, kernels, seed."""
    from lga_fast import ops, provenance

    record = provenance.environment() | {
        # What benchmarks write does not count: a second one would find the first one's results.
        "commit": provenance.commit(apart_from=_WRITTEN),
        "cpu": _cpu_name(),
        "kernels": ops.kernels(),
        "seed": seed,
    }
    if torch.cuda.is_available():
        record["cuda_device"] = torch.cuda.get_device_name()
        record["cuda"] = torch.version.cuda
    return record


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def measure(
    call: Callable[[], object], seconds: float = 0.5, least: int = 7, device: str = "cpu"
) -> dict[str, float | int]:
    """Median and spread (quartiles) of a call in milliseconds, after one warm-up.

    Repeats until `seconds` have passed and at least `least` calls are done. On CUDA each call waits
    for the device: accurate for calls of a millisecond, pessimistic for shorter ones.
    """

    def once() -> float:
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start)

    once()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < least or time.perf_counter() < end:
        samples.append(once())
    low, middle, high = statistics.quantiles(samples, n=4)
    return {
        "median_ms": middle,
        "quartile_low_ms": low,
        "quartile_high_ms": high,
        "n": len(samples),
    }


def write_result(name: str, rows: list[dict[str, Any]], seed: int | None = None) -> Path:
    """`benchmarks/results/<name>.json`, written whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"environment": environment(seed), "rows": rows}, indent=1) + "\n"
    write_atomic(path, text)
    return path


def say(text: str) -> None:
    """Print a line at once, for whoever runs a benchmark by hand."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def device_ms(call: Callable[[], object], device: str) -> dict[str, float | int]:
    """Milliseconds of a call on either kind of device."""
    return cuda_ms(call) if device == "cuda" else measure(call, seconds=0.01)


def cuda_ms(call: Callable[[], object], samples: int = 20) -> dict[str, float | int]:
    """Median and quartiles of a call's milliseconds on the device, by events.

    A sample has as many calls as fill two milliseconds, so that the launch of one overlaps the work
    of another, as in a backward pass. Buffers are reused: small ones are read from the cache, as
    they are right after a backward wrote them.
    """
    for _ in range(3):
        call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def sample(calls: int) -> float:
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / calls

    calls = max(1, min(1000, round(2 / sample(3))))
    low, middle, high = statistics.quantiles([sample(calls) for _ in range(samples)], n=4)
    row = {"median_ms": middle, "quartile_low_ms": low, "quartile_high_ms": high}
    return row | {"n": samples, "calls_a_sample": calls}
