"""Scoring passes over models of real sizes, random weights, bfloat16, real requests' lengths.

The paper's way takes two full backward passes per request, keeps the MLP gradients of both and
multiplies them. `bmm` is our pass with `grad_dot` as batched matrix products. Lengths are those of
`lengths.json`: 100 requests of zsRE, 30 of WikiBio.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import selection
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig

from gpu_parts import bmm
from gpu_parts.ceilings import matmul_rate
from lga_fast import ops
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest

LENGTHS = json.loads((Path(__file__).parents[1] / "lengths.json").read_text())
REPEATS = 5


def shapes(small: bool) -> dict[str, Any]:
    """Configs by the models' names."""
    if small:
        sizes: dict[str, Any] = {"vocab_size": 400}
        llama = sizes | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        llama |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
        gpt2 = GPT2Config(**sizes, n_embd=32, n_layer=2, n_head=2)
        return {"gpt2": gpt2, "llama": LlamaConfig(**llama), "gemma3": Gemma3TextConfig(**llama)}
    return {
        "GPT-2 XL": GPT2Config(n_embd=1600, n_layer=48, n_head=25),
        "Llama-2-7B": LlamaConfig(),
        "Gemma-3-12B": Gemma3TextConfig(
            hidden_size=3840,
            intermediate_size=15360,
            num_hidden_layers=48,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=256,
        ),
    }


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """Ours and bmm of each model and data set, then the paper's way; the slow one last."""
    ceiling = matmul_rate(device, small, torch.bfloat16)
    for name, config in shapes(small).items():
        model = selection.model_of(config, device, torch.bfloat16)
        for data, lengths in LENGTHS.items():
            requests = selection.requests_of(lengths[: 3 if small else None], config.vocab_size)
            trace = "trace.json.gz" if name == next(iter(shapes(small))) and data == "zsre" else ""
            about = {"model": name, "data": data, "requests": len(requests)}
            fast = {"ours": selection.ours, "bmm": _by_bmm}
            scores, timed = {}, {}
            for way, call in fast.items():  # also the warm-up
                peak, scores[way] = selection._peak_bytes(device, call, model, requests)
                timed[way] = {"peak_bytes_above_model": peak, "seconds": []}
            for _ in range(REPEATS):
                for way, call in fast.items():
                    timed[way]["seconds"].append(_seconds(device, call, model, requests))
            with FlopCounterMode(display=False) as counter:
                selection.ours(model, requests)
            median = statistics.median(timed["ours"]["seconds"])
            counts = {"model_operations": counter.get_total_flops(), "median_seconds": median}
            counts["share_of_matmul_rate"] = counts["model_operations"] / median / ceiling
            differ = {"bmm_differs_in_layer_rms": _apart(scores["bmm"], scores["ours"])}
            yield about | timed | counts | differ | _profiled(device, model, requests, trace)
            selection.paper(model, requests[:1])  # the warm-up
            begun = time.perf_counter()
            peak, theirs = selection._peak_bytes(device, selection.paper, model, requests)
            seconds = time.perf_counter() - begun
            yield (
                about
                | {"way": "the paper's", "seconds": seconds}
                | {
                    "peak_bytes_above_model": peak,
                    "times_slower_than_ours": seconds / median,
                    "differs_in_layer_rms": _apart(theirs, scores["ours"]),
                }
            )
        del model


def _by_bmm(model: EditableModel, requests: list[EditRequest]) -> torch.Tensor:
    with mock.patch.object(ops, "grad_dot", bmm.grad_dot):
        return selection.ours(model, requests)


def _seconds(
    device: str, call: Callable[..., Any], model: EditableModel, requests: list[EditRequest]
) -> float:
    begun = time.perf_counter()
    call(model, requests)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _apart(scores: torch.Tensor, others: torch.Tensor) -> float:
    """The largest difference in units of each layer's root mean square over the requests."""
    return float(((scores - others) / others.square().mean(0).sqrt()).abs().max())


def _profiled(
    device: str, model: EditableModel, requests: list[EditRequest], trace: str
) -> dict[str, Any]:
    """Launches and waits of one pass, and what took its time; a trace in $OUT if it has a name."""
    cuda = [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=[ProfilerActivity.CPU, *cuda]) as profiled:
        selection.ours(model, requests)
    events = profiled.key_averages()
    if trace and (out := os.environ.get("OUT")):
        profiled.export_chrome_trace(str(Path(out) / trace))
    longest = sorted(events, key=lambda event: -event.self_device_time_total)[:15]
    return {
        "launches": _count(events, "cudaLaunchKernel", "cuLaunchKernel"),
        "waits": _count(events, "cudaStreamSynchronize", "cudaDeviceSynchronize"),
        "host_copies": _count(events, "Memcpy DtoH"),
        "longest_on_device_us": {event.key[:80]: event.self_device_time_total for event in longest},
    }


def _count(events: Any, *kinds: str) -> int:
    """Calls of what begins so."""
    return sum(event.count for event in events if event.key.startswith(kinds))
