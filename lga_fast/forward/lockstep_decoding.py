"""Greedy decoding of many batches in step: each reading of the blocks gives all of them a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lga_fast import progress
from lga_fast.forward.decoding import Answers, Steps
from lga_fast.forward.kv_cache import CACHE
from lga_fast.forward.layer_major import ForwardJob, logits_of

if TYPE_CHECKING:
    from lga_fast.streaming.streamed_model import StreamedModel

Within = Callable[[], AbstractContextManager[Any]]


def decode_in_lockstep(
    model: StreamedModel,
    steps: Sequence[Steps],
    readings: int,
    within: Sequence[Within] | None = None,
) -> list[Answers]:
    """Take all steps to their ends together, in so many readings of all blocks at most.

    Args:
        model: what runs.
        steps: of each batch.
        readings: how many there are at most.
        within: of each batch, what shall be in effect while its forwards run.
    """
    with progress.bar("tokens, each a reading of all blocks", readings) as advance:
        return _in_step(model, steps, within or [nullcontext] * len(steps), advance)


def _in_step(
    model: StreamedModel,
    steps: Sequence[Steps],
    within: Sequence[Within],
    advance: Callable[[int], None],
) -> list[Answers]:
    found: list[Answers] = [[] for _ in steps]
    asked: dict[int, tuple[Tensor, Tensor, dict[str, Any]]] = {}
    caches: dict[int, Any] = {i: DynamicCache(config=model.config) for i in range(len(steps))}
    answers: dict[int, Tensor | None] = dict.fromkeys(range(len(steps)))
    while answers:
        for i, logits in answers.items():
            try:
                asked[i] = next(steps[i]) if logits is None else steps[i].send((logits, caches[i]))
            except StopIteration as end:
                found[i] = end.value
                asked.pop(i, None)
                del caches[i]
        forwards = {
            i: {"input_ids": ids, "use_cache": True, CACHE: caches[i], **inputs}
            for i, (ids, _, inputs) in asked.items()
        }
        places = {i: at for i, (_, at, _) in asked.items()}
        answers = dict(_logits(model, forwards, places, within)) if asked else {}
        advance(1 if asked else 0)
    return found


def _logits(
    model: StreamedModel,
    forwards: Mapping[int, dict[str, Any]],
    places: Mapping[int, Tensor],
    within: Sequence[Within],
) -> Sequence[tuple[int, Tensor]]:
    """Logits of every row at one place, of each of these forwards."""
    each = [ForwardJob(inputs, within[i]) for i, inputs in forwards.items()]
    reads = [(torch.arange(len(places[i])), places[i]) for i in forwards]
    return list(zip(forwards, logits_of(model, each, reads), strict=True))
