"""What the device can do at best: copying, bytes read plus written, and matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import timing
import torch


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """Rates on random data; zeros run faster."""
    yield {"copy_gb_per_s": copy_rate(device, small) / 1e9}
    for dtype in (torch.bfloat16, torch.float32):
        yield {"dtype": str(dtype)[6:], "matmul_tflops": matmul_rate(device, small, dtype) / 1e12}


def copy_rate(device: str, small: bool) -> float:
    """Bytes read plus written per second."""
    count = 2**20 if small else 2**30
    source, target = (torch.randn(count, device=device) for _ in range(2))
    seconds = timing.device_ms(lambda: target.copy_(source), device)["median_ms"] / 1e3
    return 2 * source.nbytes / seconds


def matmul_rate(device: str, small: bool, dtype: torch.dtype) -> float:
    """Operations per second of a square product."""
    n = 128 if small else 8192
    x, y = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / (timing.device_ms(lambda: x @ y, device)["median_ms"] / 1e3)
