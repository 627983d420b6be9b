"""Forwards of many batches through streamed blocks: each block is read once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast import progress
from lga_fast.forward.block_runner import BlockInputs

if TYPE_CHECKING:
    from lga_fast.streaming.streamed_model import StreamedModel


@dataclass(frozen=True)
class ForwardJob:
    """One batch, and what shall be in effect while it runs (hooks of its own)."""

    inputs: Mapping[str, Any]
    within: Callable[[], AbstractContextManager[Any]] = nullcontext


@torch.no_grad()
def run_layer_major(
    model: StreamedModel,
    forwards: Sequence[ForwardJob],
    layers: int | None = None,
    to_head: bool = False,
) -> list[Float[Tensor, "row token d_model"]]:
    """Run batches through all blocks, or so many; a `within` may end its batch by suppressing.

    `to_head` as of `StreamedModel.walk`.

    Returns:
        What left the last block, of each batch, waiting on the CPU.
    """
    calls: list[BlockInputs] = []
    hidden: list[Tensor] = []
    order = range(model.layers if layers is None else layers)
    with (
        progress.bar("blocks, each read once", len(order)) as advance,
        closing(model.walk(order, to_head)) as walk,
    ):
        for layer in walk:
            if not calls:
                for forward in forwards:
                    call = model.record(forward.inputs)
                    hidden.append(call.hidden.cpu())
                    calls.append(replace(call, hidden=call.hidden.new_empty(0, 0, 0)))
            for i, call in enumerate(calls):
                with forwards[i].within():
                    hidden[i] = model.run(layer, hidden[i].to(model.device), call).cpu()
            advance(1)
    return hidden


def logits_of(
    model: StreamedModel,
    forwards: Sequence[ForwardJob],
    reads: Sequence[tuple[Int[Tensor, " _"], Int[Tensor, " _"]]],  # position, of each batch
) -> Iterator[Float[Tensor, "position vocab"]]:
    """Logits at chosen rows and tokens of each batch, a batch after the other."""
    hidden = run_layer_major(model, forwards, to_head=True)
    with model.head():
        for i, (row, token) in enumerate(reads):
            with model.after_blocks(hidden[i].to(model.device)):
                ids = forwards[i].inputs["input_ids"]
                yield model.logits_at(ids, row, token, use_cache=False)[0]
            hidden[i] = hidden[i].new_empty(0)


def hidden_bytes(model: StreamedModel) -> int:
    """Bytes of a token's hidden states, which wait while a block runs."""
    return model.config.hidden_size * torch.finfo(model.dtype).bits // 8


def chunk_by_size(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Numbers of neighbours whose sizes add up to the limit at most; always one at least."""
    found: list[list[int]] = []
    kept = 0
    for i, size in enumerate(sizes):
        kept += size
        if not found or kept > limit:
            found.append([])
            kept = size
        found[-1].append(i)
    return found
