"""A checkpoint larger than a set limit of GPU memory, scored by reading it twice.

Run by gpu_parts/streamed.py, in a process of its own. The checkpoint is streamed from the disk (its
files are dropped from memory before) and from CPU memory (they have just been read); beside it
stand what binds, as measured in the same run: reading a file, copying pinned memory to the device,
and the same pass with resident weights.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import selection
import torch
from streamed import make
from transformers import LlamaConfig

import lga_fast
from lga_fast.models import EditableModel
from lga_fast.streaming.streamed_model import StreamedModel


def measure(config: LlamaConfig, limit: int, facts: int, device: str) -> list[dict[str, Any]]:
    """A row for the disk and one for CPU memory; `limit`: bytes of the device that may be used."""
    with tempfile.TemporaryDirectory(prefix="lga_fast-benchmark-") as name:
        folder = Path(name)
        size = make(folder, config)
        resident, computing, _ = _scored(folder, "resident", None, facts, device)
        copying = _copies_per_second(64 << 20, device)
        rows = []
        for source, ready in (("disk", _dropped), ("memory", _read)):
            reading = size / ready(folder)
            with _limited(limit, device):
                budget = limit * 2 // 3  # allocators hold more than what they give out
                scores, seconds, peak = _scored(folder, "streamed", budget, facts, device, ready)
            rates = {"read": reading, "copy": copying}
            bounds = {kind: 2 * size / rate for kind, rate in rates.items()}
            bounds["compute"] = computing
            binds = max(bounds, key=lambda kind: bounds[kind])
            rows.append(
                {
                    "source": source,
                    "checkpoint_bytes": size,
                    "limit_bytes": limit,
                    "facts": facts,
                    "seconds": seconds,
                    "seconds_of_each_bound": bounds,
                    "binds": binds,
                    "share_of_the_bound": bounds[binds] / seconds,
                    "peak_bytes": peak,
                    "largest_difference_in_layer_rms": _apart(scores, resident),
                }
            )
    return rows


def _scored(
    folder: Path, weights: Any, budget: int | None, facts: int, device: str, ready: Any = None
) -> tuple[torch.Tensor, float, int]:
    """Dot products [parameter fact layer] of the second of two passes, its seconds and peak."""
    model: EditableModel = lga_fast.load(
        folder,
        tokenizer=selection.Numbers(),
        device=device,
        weights=weights,
        memory_budget=budget,
    )
    assert isinstance(model, StreamedModel) == (weights == "streamed")
    requests = selection.facts_of(facts, 14, 3, model.config.vocab_size)
    for _ in range(2):  # the first one warms up
        if ready is not None:
            ready(folder)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        scores = lga_fast.score_layers(model, requests, old="ground_truth", show_progress=False)
        seconds = time.perf_counter() - begun
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    dots = [torch.from_numpy(scores.dot[name]) for name in sorted(scores.dot)]
    return torch.stack(dots), seconds, peak


def _apart(scores: torch.Tensor, others: torch.Tensor) -> float:
    """The largest difference in units of each parameter's and layer's mean square root."""
    return float(((scores - others).abs().amax(1) / others.square().mean(1).sqrt()).max())


@contextmanager
def _limited(limit: int, device: str) -> Iterator[None]:
    """No more than `limit` bytes of the device can be allocated while inside."""
    if device != "cuda":
        yield
        return
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.mem_get_info()[1])
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _dropped(folder: Path) -> float:
    """Seconds to read all files when the system holds none of them; then it holds none again."""
    _forget(folder)
    seconds = _read(folder)
    _forget(folder)
    return seconds


def _forget(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as open_file:
            os.fsync(open_file.fileno())
            os.posix_fadvise(open_file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(folder: Path) -> float:
    """Seconds to read all files; the system holds them afterwards where its memory suffices."""
    buffer = bytearray(16 << 20)
    begun = time.perf_counter()
    for file in folder.glob("*.safetensors"):
        with file.open("rb", buffering=0) as open_file:
            while open_file.readinto(buffer):
                pass
    return time.perf_counter() - begun


def _copies_per_second(count: int, device: str) -> float:
    """Bytes per second of copying pinned memory to the device."""
    cuda = device == "cuda"
    source = torch.zeros(count, dtype=torch.uint8, pin_memory=cuda)
    target = torch.empty_like(source, device=device)
    for repeats in (1, 20):  # the first one warms up
        begun = time.perf_counter()
        for _ in range(repeats):
            target.copy_(source, non_blocking=True)
        if cuda:
            torch.cuda.synchronize()
    return 20 * count / (time.perf_counter() - begun)
