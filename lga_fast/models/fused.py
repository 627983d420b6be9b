"""Ops that transformers writes out and torch has in one piece."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@contextmanager
def fused_gelu(hf: nn.Module) -> Iterator[None]:
    """Run the tanh-GELU of GPT-2, GPT-J, GPT-Neo, Phi and Gemma in fewer passes while inside.

    `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))` takes eight ops forward and more backward as
    transformers writes it, each a pass over the widest activation. The function is the same, its
    rounding is not.
    """
    from transformers.activations import GELUTanh, NewGELUActivation

    # A module whose forward somebody has replaced already (accelerate does) is left alone.
    found = [
        module
        for module in hf.modules()
        if type(module) in (GELUTanh, NewGELUActivation) and "forward" not in vars(module)
    ]
    try:
        for module in found:
            module.forward = _gelu
        yield
    finally:
        for module in found:
            vars(module).pop("forward", None)


def _gelu(x: Tensor) -> Tensor:
    # torch's own op takes the tanh twice, slowly on a CPU, but rounds a lower precision only once.
    exact = x.dtype in (torch.float32, torch.float64) and x.device.type == "cpu"
    if exact and x.requires_grad and torch.is_grad_enabled():
        return _Gelu.apply(x)
    return nn.functional.gelu(x, approximate="tanh")


class _Gelu(torch.autograd.Function):
    """x σ(c x + a x³), which is the tanh-GELU; its derivative is kept from the forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        c = math.sqrt(8 / math.pi)
        inner = x.square().mul_(0.044715 * c).add_(c)
        sigmoid = (inner * x).sigmoid_()
        found = x * sigmoid
        slope = inner.mul_(3).sub_(2 * c).mul_(found)
        ctx.save_for_backward(slope.addcmul_(slope, sigmoid, value=-1).add_(sigmoid))
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]
