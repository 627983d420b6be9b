"""Small things done to tensors in more than one place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def padded(rows: Sequence[Sequence[int]]) -> Int[Tensor, "row token"]:
    """Token rows as one tensor, padded on the right by their own last token.

    Attention is causal: no token of a row sees its padding, and no loss reads it. So padding needs
    no mask, its gradients are exactly zero, and any id will do; the row's own is never special.
    """
    longest = max(map(len, rows))
    return torch.tensor([[*row, *([row[-1]] * (longest - len(row)))] for row in rows])


def wide(tensor: Tensor) -> Tensor:
    """float32 of a lower precision; float32 and float64 as they are."""
    low = tensor.dtype in (torch.bfloat16, torch.float16)
    return tensor.float() if low else tensor


def additive_mask(
    hidden: Bool[Tensor, "row token key"], dtype: torch.dtype
) -> Float[Tensor, "row 1 token key"]:
    """What attention adds to its scores so that no token sees its `hidden` keys."""
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return mask.masked_fill_(hidden, torch.finfo(dtype).min).unsqueeze(1)
