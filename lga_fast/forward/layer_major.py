"""Forwards of many batches with blocks as the outer loop: each block is read once for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from lga_fast import progress
from lga_fast.models.block_runner import BlockInputs, BlockRunner
from lga_fast.models.editable import EditableModel, ForwardJob
from lga_fast.models.kv_cache import CACHE


@torch.no_grad()
def run_layer_major(
    runner: BlockRunner, jobs: Sequence[ForwardJob], layers: int, to_head: bool = False
) -> list[Float[Tensor, "row token d_model"]]:
    """Run batches through the first `layers` blocks; `to_head` as of `BlockRunner.walk`.

    A `within` may end its batch by suppressing an exception.

    Returns:
        The output of the last block for each batch, on the CPU.
    """
    calls: list[BlockInputs] = []
    hidden: list[Tensor] = []
    with (
        progress.bar("blocks, each read once", layers) as advance,
        closing(runner.walk(range(layers), to_head)) as walk,
    ):
        for layer in walk:
            if not calls:
                for job in jobs:
                    call = runner.record(job.inputs)
                    hidden.append(call.hidden.cpu())
                    calls.append(replace(call, hidden=call.hidden.new_empty(0, 0, 0)))
            for i, call in enumerate(calls):
                device = call.hidden.device
                with jobs[i].within():
                    hidden[i] = runner.run(layer, hidden[i].to(device), call).cpu()
            advance(1)
    return hidden


def layer_major_logits(
    model: EditableModel, runner: BlockRunner, jobs: Sequence[ForwardJob]
) -> Iterator[tuple[Float[Tensor, "position vocab"], Any]]:
    """See `EditableModel.logits_of`."""
    caches = [job.inputs.get(CACHE) for job in jobs]
    # Whisper's config counts its encoder's layers; without one, a cache grows.
    counted = getattr(model.config, "num_hidden_layers", None) == model.layers
    config = model.config if counted else None
    for i, job in enumerate(jobs):
        if job.inputs.get("use_cache") and caches[i] is None:
            caches[i] = DynamicCache(config=config)
    cached = [
        replace(job, inputs={**job.inputs, CACHE: cache}) if cache is not None else job
        for job, cache in zip(jobs, caches, strict=True)
    ]
    hidden = run_layer_major(runner, cached, model.layers, to_head=True)
    with runner.head():
        for i, job in enumerate(jobs):
            with runner.after_blocks(hidden[i].to(model.device)):
                ids = job.inputs["input_ids"]
                logits, _ = model.logits_at(ids, job.rows, job.tokens, use_cache=False)
            hidden[i] = hidden[i].new_empty(0)
            yield logits, caches[i]
