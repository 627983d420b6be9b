"""R-ROME on GPT-2 XL's shape, random weights: 64 requests at once, against one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import editing
import torch
from transformers import GPT2Config


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """One row for each precision."""
    config = GPT2Config(n_embd=1600, n_layer=48, n_head=25, attn_implementation="sdpa")
    if small:
        config = GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=4096)
    count, layer = (2, 1) if small else (64, 17)
    for dtype in (torch.bfloat16, torch.float32):
        row = editing.compare(
            dtype, device, repeats=1 if small else 3, config=config, count=count, layer=layer
        )
        yield {name: value for name, value in row.items() if name[0] != "_"}
