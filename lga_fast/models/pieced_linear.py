"""A linear product a piece of the weight at a time, in float32 or wider, rounded once."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from lga_fast.models.tensor_utils import wide

_PIECE = 3 << 20  # bytes of the weight in that precision: so many stay in the cache


def pieced_linear(
    x: Float[Tensor, "*token d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None,
) -> Float[Tensor, "*token d_out"]:
    """`x weightᵀ + bias`, differentiable in `x` alone."""
    if x.requires_grad and torch.is_grad_enabled():
        return _PiecedLinear.apply(x, weight, bias)
    return _product(x, weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output, rows = x.new_empty(*x.shape[:-1], len(weight)), _rows(weight)
    pieces, x = weight.split(rows), wide(x)
    biases = [None] * len(pieces) if bias is None else wide(bias).split(rows)
    for part, piece, b in zip(output.split(rows, -1), pieces, biases, strict=True):
        part.copy_(linear(x, wide(piece), b))
    return output


def _rows(weight: Tensor) -> int:
    """Of a piece."""
    return max(1, _PIECE // (weight.shape[1] * max(4, weight.itemsize)))


class _PiecedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        rows = _rows(weight)
        parts = zip(wide(grad).split(rows, -1), weight.split(rows), strict=True)
        total = torch.zeros((), device=grad.device)
        for part, piece in reversed([*parts]):  # the order in which autograd would add them
            total = total + part @ wide(piece)
        return total.to(grad.dtype), None, None
