"""Continuations of prompts, as steps: who runs the steps decides how their forwards are done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast.forward.kv_cache import CACHE, cache_of
from lga_fast.models.tensor_utils import padded

if TYPE_CHECKING:
    from lga_fast.models.editable import EditableModel

Batch = tuple[Sequence[Sequence[int]], Sequence[int]]  # prompts, and how many tokens each may get
Answers = list[list[int]]
# Asks for the logits of rows of ids, at one place each, and gives inputs of that forward; is sent
# the logits and the cache.
Steps = Generator[tuple[Tensor, Tensor, dict[str, Any]], tuple[Tensor, Any], Answers]


@torch.no_grad()
def greedy(
    model: EditableModel,
    batches: Sequence[Batch],
    run: Callable[[EditableModel, Sequence[Steps]], list[Answers]],
) -> list[Answers]:
    """`EditableModel.greedy` of several batches, whose steps `run` takes to their ends."""
    groups: list[tuple[int, list[int]]] = []  # a batch, and those of its rows that run together
    for number, (prompts, lengths) in enumerate(batches):
        widths = sorted({len(p) for p in prompts})
        together = [list(range(len(prompts)))]
        if widths[-1] + max(lengths) > model.window:
            # A sliding window counts the padding between a short prompt and its answer.
            together = [[i for i, p in enumerate(prompts) if len(p) == width] for width in widths]
        groups += [(number, rows) for rows in together]
    steps = [
        steps_of(
            model,
            [prompts[i] for i in rows],
            [lengths[i] for i in rows],
            [model.end_ids()] * len(rows),
        )
        for (prompts, lengths), rows in ((batches[number], rows) for number, rows in groups)
    ]
    found: list[Answers] = [[[] for _ in prompts] for prompts, _ in batches]
    with model.frozen():
        for (number, rows), answers in zip(groups, run(model, steps), strict=True):
            for i, answer in zip(rows, answers, strict=True):
                found[number][i] = answer
    return found


def one_by_one(model: EditableModel, steps: Sequence[Steps]) -> list[Answers]:
    """Take steps to their ends, a batch after the other."""
    return [to_end(model, one) for one in steps]


def to_end(model: EditableModel, steps: Steps) -> Answers:
    """Take one batch's steps to their end, by forwards of the whole model."""
    try:
        ids, at, inputs = next(steps)
        while True:
            rows = torch.arange(len(ids))
            logits, output = model.logits_at(ids, rows, at, use_cache=True, **inputs)
            ids, at, inputs = steps.send((logits, cache_of(output)))
    except StopIteration as end:
        return end.value


def most_likely(logits: Float[Tensor, "row vocab"]) -> Int[Tensor, " row"]:
    """The most likely token of each row."""
    return logits.argmax(-1).cpu()


def steps_of(
    model: EditableModel,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int],
    ends: Sequence[Collection[int]],
    choose: Callable[[Tensor], Tensor] = most_likely,
) -> Steps:
    """The steps of one batch, with a KV cache; the model is frozen while they run.

    Args:
        model: the model.
        prompts: token ids, special tokens included. Where a sliding window may reach the padding
            between a prompt and its answer, all of one length.
        lengths: how many tokens each row may get.
        ends: by row, tokens before which it ends.
        choose: the next token of each row [row], on the CPU, from its logits [row vocab].
    """
    # Prompts are padded on the right: no query is ever without a key, which some attention
    # code answers with NaN; a mask then hides the padding from the answer's tokens.
    width = max(map(len, prompts))
    ids = padded(prompts)
    mask = torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in prompts])
    places = mask.sum(1) - 1
    inputs: dict[str, Any] = {}
    left, found = list(lengths), [[] for _ in prompts]
    at = places  # where in `ids` each row's newest token lies
    while any(left):
        logits, cache = yield ids.to(model.device), at, inputs
        ids = choose(logits).unsqueeze(1)
        for row, token in enumerate(ids[:, 0].tolist()):
            left[row] = 0 if token in ends[row] else left[row]
            if left[row]:
                found[row].append(token)
                left[row] -= 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        places = (places + 1).clamp(max=model.max_tokens - 1)  # of rows that have ended already
        at = torch.zeros_like(places)
        inputs = {
            "attention_mask": mask.to(model.device),
            "position_ids": places.unsqueeze(1).to(model.device),
            CACHE: cache,
        }
    return found
