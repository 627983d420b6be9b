"""Linear modules in half precision on a CPU without instructions for it: float32 inside.

There torch multiplies bfloat16 and float16 number by number, 7 times as slowly as float32 and in a
backward 30 times. Here a piece of the weight is converted at a time, small enough for the cache,
and the sum is rounded once: as fast as float32, or faster where reading weights takes the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from transformers import Conv1D

from lga_fast.models.module_patching import patched_forwards

_PIECE = 3 << 20  # bytes of the weight in float32 that are multiplied at once


@contextmanager
def half_linear(hf: nn.Module) -> Iterator[None]:
    """Run plain linear modules in half precision in float32 pieces while inside, on such a CPU."""
    modules = [
        module
        for module in hf.modules()
        if is_slow(module)
        and "forward" not in vars(module)  # replaced already: accelerate does, and an outer `with`
    ]
    with patched_forwards({module: partial(run_linear, module) for module in modules}):
        yield


def is_slow(module: Any) -> bool:
    """Whether this is a plain linear module whose weight torch multiplies number by number."""
    return (
        type(module) in (nn.Linear, Conv1D)
        and module.weight.dtype in _slow_dtypes()
        and module.weight.device.type in ("cpu", "meta")  # meta: weights that come when called
    )


def run_linear(module: Any, x: Tensor) -> Tensor:
    """Forward of such a module."""
    weight, bias = module.weight, module.bias
    alone = x.numel() == x.shape[-1]  # torch's product with one vector is fast
    if alone or weight.requires_grad or weight.device.type != "cpu" or x.dtype != weight.dtype:
        return type(module).forward(module, x)
    if type(module) is Conv1D:
        weight = weight.T
    if x.requires_grad and torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


@cache
def _slow_dtypes() -> frozenset[torch.dtype]:
    if not torch.backends.mkldnn.is_available():
        return frozenset()
    native = torch.ops.mkldnn
    supported = {
        torch.bfloat16: native._is_mkldnn_bf16_supported,
        torch.float16: native._is_mkldnn_fp16_supported,
    }
    return frozenset(dtype for dtype, is_supported in supported.items() if not is_supported())


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    wide, weights = x.float(), _pieces(weight, weight)
    output = x.new_empty(*x.shape[:-1], len(weight))
    biases = [None] * len(weights) if bias is None else _pieces(bias.float(), weight)
    for part, rows, b in zip(_pieces(output, weight, -1), weights, biases, strict=True):
        part.copy_(linear(wide, rows.float(), b))
    return output


def _pieces(x: Tensor, weight: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """Parts of `x` along its axis of the weight's rows."""
    return x.split(max(1, _PIECE // (4 * weight.shape[1])), axis)


class _Linear(torch.autograd.Function):
    """The product with a weight that takes no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        parts = zip(_pieces(grad.float(), weight, -1), _pieces(weight, weight), strict=True)
        total = torch.zeros((), device=grad.device)
        for part, rows in parts:
            total = total + part @ rows.float()
        return total.to(grad.dtype), None, None
