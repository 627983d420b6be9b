"""Ops that transformers writes out and torch has in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn


@contextmanager
def fused_gelu(hf: nn.Module) -> Iterator[None]:
    """Run the tanh-GELU of GPT-2, GPT-J, GPT-Neo and Phi as torch's one op while inside.

    `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))` takes eight ops forward and more backward as
    transformers writes it, each a pass over the widest activation. The function is the same, its
    rounding is not.
    """
    from transformers.activations import NewGELUActivation

    # A module whose forward somebody has replaced already (accelerate does) is left alone.
    found = [
        module
        for module in hf.modules()
        if type(module) is NewGELUActivation and "forward" not in vars(module)
    ]
    try:
        for module in found:
            module.forward = partial(nn.functional.gelu, approximate="tanh")
        yield
    finally:
        for module in found:
            vars(module).pop("forward", None)
