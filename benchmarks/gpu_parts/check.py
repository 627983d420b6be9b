"""Errors of every op and of plain torch in the same dtype, against float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from gpu_parts.inputs import factors
from lga_fast import ops
from lga_fast.ops import reference

DTYPES = ("float32", "bfloat16", "float16", "float64")
SMALL = [(3, 1, 1, 33), (2, 5, 40, 24), (2, 17, 65, 129)]  # pairs, tokens, d_in, d_out
LARGE = [(8, 17, 1600, 6400), (2, 513, 768, 3072), (30, 24, 1, 6400), (4, 24, 4096, 11008)]


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """One row for each op, dtype and size; fails at the end if one is wrong."""
    wrong = 0
    for dtype in DTYPES:
        for size in SMALL if small else SMALL + LARGE:
            for name, run in _ops(size, getattr(torch, dtype), device):
                oracle = run(reference, torch.float64)
                kernel, plain, again = run(ops), run(reference), run(ops)
                error, torch_error = (
                    float((out.double() - oracle).norm() / oracle.norm()) for out in (kernel, plain)
                )
                # The oracle's own rounding counts where the op itself is in float64.
                roundings = 32 if dtype == "float64" else 4
                allowed = 2 * torch_error + roundings * torch.finfo(kernel.dtype).eps
                same = torch.equal(kernel, again)
                right = error <= allowed and same
                wrong += not right
                yield {"op": name, "dtype": dtype, "size": list(size), "right": right} | {
                    "error": error,
                    "torch_error": torch_error,
                    "allowed": allowed,
                    "same_bits_twice": same,
                }
    if wrong:
        raise SystemExit(f"{wrong} cases are wrong; see the rows")


def _ops(
    size: tuple[int, int, int, int], dtype: torch.dtype, device: str
) -> list[tuple[str, Callable[..., torch.Tensor]]]:
    """Each op's name and a function that runs `module`'s version of it on the same values."""
    a, d, old, new = factors(*size, dtype, device)
    weight = torch.randn(size[3], size[2], device=device).to(dtype)
    left, right = (torch.randn(n, 2, device=device) for n in weight.shape)

    def grad_dot(module: Any, to: Any = dtype) -> torch.Tensor:
        return module.grad_dot(a.to(to), d.to(to), old, a.to(to), d.to(to), new)

    def grad_abs_sum(module: Any, to: Any = dtype) -> torch.Tensor:
        return module.grad_abs_sum(a.to(to), d.to(to), old)

    def low_rank_update_(module: Any, to: Any = dtype) -> torch.Tensor:
        changed = weight.to(to, copy=True)
        wide = torch.promote_types(left.dtype, to)
        module.low_rank_update_(changed, left.to(wide), right.to(wide), 0.5)
        return changed

    return [(f.__name__, f) for f in (grad_dot, grad_abs_sum, low_rank_update_)]
