"""Brute force: R-ROME at every layer of GPT-2 XL's shape, random weights, with its measurements."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import editing
import torch
from transformers import GPT2Config

import lga_fast
from lga_fast.sweep.run import sweep

LIMIT_S = 360  # what is predicted to take longer is not begun


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """Ten facts, and a hundred if that fits the time of a part."""
    config = GPT2Config(n_embd=1600, n_layer=48, n_head=25, attn_implementation="sdpa")
    if small:
        config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=4096)
    model = editing.model_of(torch.bfloat16, device, config)
    facts = lga_fast.load_edits("atlas")
    options: dict[str, Any] = {"steps": 2, "contexts": []} if small else {}
    spent = 0.0
    for count in (1, 2) if small else (10, 100):
        about = {"model": f"gpt2, {model.layers} layers", "facts": count}
        if spent * 10 > LIMIT_S:
            yield about | {"seconds": None, "predicted_seconds": spent * 10}
            return
        begun = time.perf_counter()
        sweep(model, facts[:count], show_progress=False, **options)
        spent = time.perf_counter() - begun
        yield about | {"seconds": spent, "edits_per_second": count * model.layers / spent}
