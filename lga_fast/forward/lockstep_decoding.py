"""Greedy decoding of many batches in step: each reading of the blocks gives all of them a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lga_fast import progress
from lga_fast.forward.decode_checkpoint import DecodeCheckpoint, JournaledCache
from lga_fast.forward.decoding import Answers, Steps, most_likely
from lga_fast.forward.kv_cache import CACHE
from lga_fast.forward.layer_major import ForwardJob, logits_of
from lga_fast.forward.tensor_store import TensorStore

if TYPE_CHECKING:
    from lga_fast.streaming.streamed_model import StreamedModel

Within = Callable[[], AbstractContextManager[Any]]


def decode_in_lockstep(
    model: StreamedModel,
    steps: Sequence[Steps],
    readings: int,
    within: Sequence[Within] | None = None,
    waiting: TensorStore | None = None,
) -> list[Answers]:
    """Take all steps to their ends together, in so many readings of all blocks at most.

    Args:
        model: what runs.
        steps: of each batch.
        readings: how many there are at most.
        within: of each batch, what shall be in effect while its forwards run.
        waiting: where greedy steps that were killed go on, and keep what they find.
    """
    with progress.bar("tokens, each a reading of all blocks", readings) as advance:
        return _in_step(model, steps, within or [nullcontext] * len(steps), waiting, advance)


def _in_step(
    model: StreamedModel,
    steps: Sequence[Steps],
    within: Sequence[Within],
    waiting: TensorStore | None,
    advance: Callable[[int], None],
) -> list[Answers]:
    found: list[Answers] = [[] for _ in steps]
    asked: dict[int, tuple[Tensor, Tensor, dict[str, Any]]] = {}
    kept: DecodeCheckpoint | None = None
    caches: dict[int, Any] = {i: DynamicCache(config=model.config) for i in range(len(steps))}
    if waiting:
        caches = {i: JournaledCache(model.config) for i in caches}
        kept = DecodeCheckpoint(waiting, caches, model.layers, model.device)
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
        answers = dict(_logits(model, forwards, places, within, kept)) if asked else {}
        advance(1 if asked else 0)
    return found


def _logits(
    model: StreamedModel,
    forwards: Mapping[int, dict[str, Any]],
    places: Mapping[int, Tensor],
    within: Sequence[Within],
    kept: DecodeCheckpoint | None,
) -> Sequence[tuple[int, Tensor | None]]:
    """Logits of every row at one place, of each of these forwards.

    Of a reading that was finished before: what is most likely is the same, and nothing else.
    """
    before = kept.begin(list(forwards)) if kept else None
    if before is not None:
        return [(i, torch.nn.functional.one_hot(ids).float()) for i, ids in before.items()]
    each = [ForwardJob(inputs, within[i]) for i, inputs in forwards.items()]
    reads = [(torch.arange(len(places[i])), places[i]) for i in forwards]
    found = list(zip(forwards, logits_of(model, each, reads, kept), strict=True))
    if kept:
        kept.finish({i: most_likely(logits) for i, logits in found})
    return found
