"""Each op against plain torch in one run, and against the device's ceilings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import timing
import torch

from gpu_parts.ceilings import copy_rate, matmul_rate
from gpu_parts.inputs import SHAPES, factors
from lga_fast import ops
from lga_fast.ops import reference

CASES = [(8, 17), (30, 24), (30, 200)]  # pairs, tokens of a row


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """Times of kernel and reference, and what share of each ceiling the kernel reaches."""
    copying = copy_rate(device, small)
    shapes = [("small", 24, 40)] if small else SHAPES
    for dtype in (torch.bfloat16, torch.float32):
        product = matmul_rate(device, small, dtype)
        for shape, d_in, d_out in shapes:
            about = {"shape": shape, "dtype": str(dtype)[6:]}
            for pairs, tokens in CASES[: 1 if small else None]:
                a, d, old, new = factors(pairs, tokens, d_in, d_out, dtype, device)
                size = about | {"pairs": pairs, "tokens": tokens}
                moved = a.nbytes + d.nbytes
                # Grams of both factors: old with new, and each with itself.
                needed = 3 * pairs * 2 * tokens**2 * (d_in + d_out)
                row = _against("grad_dot", (a, d, old, a, d, new), device)
                yield size | row | _shares(row, moved, needed, copying, product)
                first = (a[: pairs * tokens], d[: pairs * tokens], old)
                row = _against("grad_abs_sum", first, device)
                needed = pairs * 2 * tokens * d_in * d_out
                yield size | row | _shares(row, moved // 2, needed, copying, product)
            weight = torch.randn(d_out, d_in, device=device).to(dtype)
            left, right = (torch.randn(n, 1, device=device) for n in (d_out, d_in))
            row = _against("low_rank_update_", (weight, left, right, 1e-6), device)
            yield (
                about | row | _shares(row, 2 * weight.nbytes, 2 * weight.numel(), copying, product)
            )


def _against(op: str, inputs: tuple[Any, ...], device: str) -> dict[str, Any]:
    """Times of the kernel and of the reference."""
    calls: dict[str, Callable[..., Any]] = {
        "kernel": getattr(ops, op),
        "reference": getattr(reference, op),
    }
    times = {
        name: timing.device_ms(lambda call=call: call(*inputs), device)
        for name, call in calls.items()
    }
    ratio = times["reference"]["median_ms"] / times["kernel"]["median_ms"]
    return {"op": op, **times, "times_faster": ratio}


def _shares(
    row: dict[str, Any], moved: int, needed: int, copying: float, product: float
) -> dict[str, float]:
    """Of the two ceilings: bytes that must move, and operations that must be done."""
    seconds = row["kernel"]["median_ms"] / 1e3
    return {
        "bytes": moved,
        "operations": needed,
        "share_of_copy_rate": moved / seconds / copying,
        "share_of_matmul_rate": needed / seconds / product,
    }
