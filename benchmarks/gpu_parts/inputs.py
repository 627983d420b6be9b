"""Inputs of ops: what a backward pass hands over, at random."""

from __future__ import annotations

from typing import Any

import torch

SEED = 0
# (name, d_in, d_out) of the up projections; the down projections are the same turned round
SHAPES = [("GPT-2 XL", 1600, 6400), ("Llama-2-7B", 4096, 11008), ("Gemma-3-12B", 3840, 15360)]


def factors(
    pairs: int, tokens: int, d_in: int, d_out: int, dtype: torch.dtype, device: str
) -> tuple[Any, ...]:
    """Random a and d, and rows of old and new, one after the other."""
    torch.manual_seed(SEED)
    a = torch.randn(2 * pairs * tokens, d_in, device=device).to(dtype)
    d = torch.randn(2 * pairs * tokens, d_out, device=device).to(dtype)
    starts = torch.arange(2 * pairs) * tokens
    rows = torch.stack([starts, torch.full_like(starts, tokens)], 1)
    return a, d, rows[:pairs], rows[pairs:]
