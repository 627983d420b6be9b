"""Helpers: padding, precision and masks of tensors; weights of linear modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lga_fast.undo import undone


def padded(rows: Sequence[Sequence[int]]) -> Int[Tensor, "row token"]:
    """Token rows as one tensor, padded on the right by their own last token.

    Attention is causal: no token of a row sees its padding, and no loss reads it. So padding needs
    no mask, has gradients of exactly zero, and may be any id; the row's last is never special.
    """
    longest = max(map(len, rows))
    return torch.tensor([[*row, *([row[-1]] * (longest - len(row)))] for row in rows])


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on `device`; from memory that is not pinned the host would wait for its copy."""
    pinned = tensor.pin_memory() if device.type == "cuda" and not tensor.is_cuda else tensor
    return pinned.to(device, non_blocking=True)


def wide(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 unchanged."""
    low = tensor.dtype in (torch.bfloat16, torch.float16)
    return tensor.float() if low else tensor


def additive_mask(
    hidden: Bool[Tensor, "row token key"], dtype: torch.dtype
) -> Float[Tensor, "row 1 token key"]:
    """What to add to attention scores so that no token sees its `hidden` keys."""
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return mask.masked_fill_(hidden, torch.finfo(dtype).min).unsqueeze(1)


def shape_of(module: Any) -> tuple[int, int]:
    """(d_out, d_in) of a linear module, however its weight is stored or packed."""
    if hasattr(module, "in_features"):
        return module.out_features, module.in_features
    if type(module).__name__ == "Conv1D":
        return module.nf, module.nx
    return tuple(module.weight.shape)


def whole_weight(module: nn.Module) -> nn.Parameter | None:
    """The module's weight if it is a plain floating-point parameter, not packed or computed."""
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    plain = type(weight) is nn.Parameter and weight.ndim == 2 and weight.is_floating_point()
    return weight if plain else None


@contextmanager
def grad_mode(tracked: bool) -> Iterator[None]:
    """`torch.no_grad()` or `torch.enable_grad()`, and undone whatever interrupts it."""
    with undone((), partial(torch.set_grad_enabled, torch.is_grad_enabled())):
        torch.set_grad_enabled(tracked)
        yield
