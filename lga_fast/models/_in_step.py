"""Greedy decoding of many batches in step: each reading of the blocks gives all of them a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lga_fast import progress
from lga_fast.models.decoding import Answers, Steps

if TYPE_CHECKING:
    from lga_fast.models.streamed import StreamedModel


def in_step(model: StreamedModel, steps: Sequence[Steps], readings: int) -> list[Answers]:
    """Take all steps to their ends together, in so many readings of all blocks at most."""
    with progress.bar("tokens, each a reading of all blocks", readings) as advance:
        return _in_step(model, steps, advance)


def _in_step(
    model: StreamedModel, steps: Sequence[Steps], advance: Callable[[int], None]
) -> list[Answers]:
    found: list[Answers] = [[] for _ in steps]
    asked: dict[int, tuple[Tensor, Tensor, dict[str, Any]]] = {}
    caches = {i: DynamicCache(config=model.config) for i in range(len(steps))}
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
            i: {"input_ids": ids, "use_cache": True, "past_key_values": caches[i], **inputs}
            for i, (ids, _, inputs) in asked.items()
        }
        places = {i: at for i, (_, at, _) in asked.items()}
        answers = dict(_logits(model, forwards, places)) if asked else {}
        advance(1 if asked else 0)
    return found


def _logits(
    model: StreamedModel, forwards: Mapping[int, dict[str, Any]], places: Mapping[int, Tensor]
) -> list[tuple[int, Tensor | None]]:
    """Logits of every row at one place, of each of these forwards."""
    calls, hidden = {}, {}
    with closing(model.walk(range(model.layers))) as layers:
        for layer in layers:
            if not calls:
                calls = {i: model.record(inputs) for i, inputs in forwards.items()}
                hidden = {i: call.hidden for i, call in calls.items()}
            for i, call in calls.items():
                hidden[i] = model.run(layer, hidden[i], call)
    found = []
    with model.head():
        for i, at in places.items():
            with model.after_blocks(hidden[i]):
                ids, rows = forwards[i]["input_ids"], torch.arange(len(at))
                found.append((i, model.logits_at(ids, rows, at, use_cache=False)[0]))
    return found
