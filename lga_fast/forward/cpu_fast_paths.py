"""Ops of models in forms that are faster on a CPU; the functions are the same, rounding is not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lga_fast.models.module_patching import patched_forwards
from lga_fast.models.pieced_linear import pieced_linear


@contextmanager
def fast_gelu(hf: nn.Module) -> Iterator[None]:
    """Run the tanh-GELU of GPT-2, GPT-J, GPT-Neo, Phi and Gemma in fewer passes while inside.

    `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))` takes eight ops forward and more backward as
    transformers writes it, each a pass over the widest activation. The function is the same, its
    rounding is not.
    """
    from transformers.activations import GELUTanh, NewGELUActivation

    # A module whose forward has been replaced already (accelerate does) is left alone.
    modules = [
        module
        for module in hf.modules()
        if type(module) in (GELUTanh, NewGELUActivation) and "forward" not in vars(module)
    ]
    with patched_forwards(dict.fromkeys(modules, _gelu)):
        yield


def _gelu(x: Tensor) -> Tensor:
    # torch's own op takes the tanh twice, slowly on a CPU, but rounds a lower precision only once.
    ours = _is_wide(x) and x.device.type == "cpu"
    if ours and x.requires_grad and torch.is_grad_enabled():
        return _Gelu.apply(x)
    return nn.functional.gelu(x, approximate="tanh")


class _Gelu(torch.autograd.Function):
    """x σ(c x + a x³), which is the tanh-GELU; its derivative is kept from the forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        c = math.sqrt(8 / math.pi)
        inner = x.square().mul_(0.044715 * c).add_(c)
        sigmoid = (inner * x).sigmoid_()
        output = x * sigmoid
        slope = inner.mul_(3).sub_(2 * c).mul_(output)
        ctx.save_for_backward(slope.addcmul_(slope, sigmoid, value=-1).add_(sigmoid))
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]


@contextmanager
def head_in_pieces(hf: Any) -> Iterator[None]:
    """Run a head with a wide vocabulary a part of it at a time while inside.

    For few tokens the CPU's matrix product of the whole is up to a third slower. The head takes no
    gradient.
    """
    head = hf.get_output_embeddings()
    plain = type(head) is nn.Linear and "forward" not in vars(head)
    if not plain or head.weight.device.type != "cpu" or not _is_wide(head.weight):
        yield
        return
    with patched_forwards({head: lambda x: pieced_linear(x, head.weight, head.bias)}):
        yield


def _is_wide(x: Tensor) -> bool:
    return x.dtype in (torch.float32, torch.float64)
