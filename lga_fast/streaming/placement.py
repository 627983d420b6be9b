"""Whether weights stay in memory or are streamed, where the user leaves it open."""

from __future__ import annotations

from typing import Literal

import torch

from lga_fast import memory
from lga_fast.errors import LgaFastError
from lga_fast.streaming.checkpoint_files import find_files, weight_bytes


def choose_weights(
    path: str, device: str | torch.device, dtype: torch.dtype | None, budget: int | None
) -> tuple[Literal["resident", "streamed"], str]:
    """Resident or streamed, and why."""
    if device == "auto":
        return "resident", "weights: resident, spread over the devices"
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if getattr(config, "quantization_config", None):
        return "resident", "weights: resident, quantised ones cannot be streamed"
    free = memory.available_on(torch.device(device))
    try:
        files = find_files(path)
    except LgaFastError:
        return "resident", "weights: resident, there are no safetensors files to stream"
    needed = weight_bytes(files, dtype)
    limit, what = (budget, "the memory budget") if budget else (free // 2, "half the free memory")
    chosen: Literal["resident", "streamed"] = "resident" if needed <= limit else "streamed"
    sizes = f"they take {needed >> 20} MiB, {what} is {limit >> 20} MiB"
    return chosen, f"weights: {chosen}, {sizes}"
