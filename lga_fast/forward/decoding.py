"""Greedy and sampled continuations of prompts with a KV cache.

A batch is decoded by a generator of steps: it yields the forward it needs and is sent the logits.
Batches that run together take their steps in lockstep, so that with streamed weights one reading of
the blocks gives each of them a token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast import memory, progress
from lga_fast.models.editable import EditableModel, ForwardJob
from lga_fast.models.kv_cache import CACHE
from lga_fast.models.tensor_utils import padded

Batch = tuple[Sequence[Sequence[int]], Sequence[int]]  # prompts, and how many tokens each may get
Answers = list[list[int]]
# Yields the forward it needs; is sent its logits and KV cache.
Steps = Generator[ForwardJob, tuple[Tensor, Any], Answers]


def greedy(
    model: EditableModel, prompts: Sequence[Sequence[int]], lengths: Sequence[int]
) -> Answers:
    """Greedy continuations of one batch of prompts.

    Args:
        model: the model.
        prompts: token ids, special tokens included.
        lengths: how many tokens each row may get; a row ends before an end-of-text token.
    """
    return greedy_batches(model, [(prompts, lengths)])[0]


@torch.no_grad()
def greedy_batches(model: EditableModel, batches: Sequence[Batch]) -> list[Answers]:
    """`greedy` of several batches."""
    groups: list[tuple[int, list[int]]] = []  # a batch, and those of its rows that run together
    for number, (prompts, lengths) in enumerate(batches):
        widths = sorted({len(p) for p in prompts})
        row_groups = [list(range(len(prompts)))]
        if widths[-1] + max(lengths) > model.window:
            # A sliding window counts the padding between a short prompt and its answer.
            row_groups = [[i for i, p in enumerate(prompts) if len(p) == width] for width in widths]
        groups += [(number, rows) for rows in row_groups]
    steps = [
        steps_of(
            model,
            [prompts[i] for i in rows],
            [lengths[i] for i in rows],
            [model.end_ids()] * len(rows),
        )
        for (prompts, lengths), rows in ((batches[number], rows) for number, rows in groups)
    ]
    longest = max((length for _, lengths in batches for length in lengths), default=0)
    answers: list[Answers] = [[[] for _ in prompts] for prompts, _ in batches]
    with model.frozen():
        for (number, rows), decoded in zip(groups, decode(model, steps, longest), strict=True):
            for i, answer in zip(rows, decoded, strict=True):
                answers[number][i] = answer
    return answers


def decode(model: EditableModel, steps: Sequence[Steps], longest: int) -> list[Answers]:
    """Run the steps of each batch to their end; those that run together in lockstep.

    Args:
        model: frozen by the caller.
        steps: of each batch; see `steps_of`.
        longest: tokens that a row may get at most.
    """
    answers: list[Answers] = [[] for _ in steps]
    show = None if model.streamed else False
    with progress.bar("tokens, each a reading of all blocks", longest, show) as advance:
        for group in model.groups([1] * len(steps), len(steps)):
            replies: dict[int, Any] = dict.fromkeys(group)  # None starts a generator
            while replies:
                jobs: dict[int, ForwardJob] = {}
                for i, reply in replies.items():
                    try:
                        jobs[i] = steps[i].send(reply)
                    except StopIteration as end:
                        answers[i] = end.value
                logits = model.logits_of(list(jobs.values())) if jobs else []
                replies = dict(zip(jobs, logits, strict=True))
                advance(1 if jobs else 0)
    return answers


def most_likely(model: EditableModel, logits: Float[Tensor, "row vocab"]) -> Int[Tensor, " row"]:
    """The most likely token of each row.

    Raises:
        NonFinite: a row has a NaN, which is the largest value to `argmax`, or an infinity.
    """
    ids = logits.argmax(-1, keepdim=True)
    model.check_logits(logits.gather(-1, ids))
    return ids[:, 0].cpu()


def steps_of(
    model: EditableModel,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int],
    ends: Sequence[Collection[int]],
    choose: Callable[[Tensor], Tensor] | None = None,
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Steps:
    """The steps of one batch, with a KV cache; the model is frozen while they run.

    Args:
        model: the model.
        prompts: token ids, special tokens included. Where a sliding window may reach the padding
            between a prompt and its answer, all of one length.
        lengths: how many tokens each row may get.
        ends: by row, tokens before which it ends.
        choose: the next token of each row [row], on the CPU, from its logits [row vocab]; None:
            the most likely one.
        within: what is in effect while the forwards run.
    """
    if model.family.decoding == "plain":
        return (yield from _plain_steps(model, prompts, lengths, ends, choose, within))
    # Prompts are padded on the right: no query is ever without a key, which some attention
    # code answers with NaN; a mask then hides the padding from the answer's tokens.
    width = max(map(len, prompts))
    ids, rows = padded(prompts), torch.arange(len(prompts))
    mask = torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in prompts])
    positions = mask.sum(1) - 1
    newest = positions  # where in `ids` each row's newest token lies
    inputs: dict[str, Any] = {"use_cache": True}
    remaining, answers = list(lengths), [[] for _ in prompts]
    while any(remaining):
        inputs["input_ids"] = ids.to(model.device)
        logits, cache = yield ForwardJob(inputs, rows, newest, within)
        ids = (choose(logits) if choose else most_likely(model, logits)).unsqueeze(1)
        _take(ids[:, 0].tolist(), ends, remaining, answers)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        positions = (positions + 1).clamp(max=model.max_tokens - 1)  # of rows that have ended too
        newest = torch.zeros_like(positions)
        inputs = {"use_cache": True, CACHE: cache}
        if model.family.decoding == "padded":
            inputs["attention_mask"] = mask.to(model.device)
            inputs["position_ids"] = positions.unsqueeze(1).to(model.device)
    return answers


def _plain_steps(
    model: EditableModel,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int],
    ends: Sequence[Collection[int]],
    choose: Callable[[Tensor], Tensor] | None,
    within: Callable[[], AbstractContextManager[Any]],
) -> Steps:
    """`steps_of` without a cache: every step runs the rows as a whole."""
    remaining, answers = list(lengths), [[] for _ in prompts]
    while any(remaining):
        rows = [(*prompt, *answer) for prompt, answer in zip(prompts, answers, strict=True)]
        inputs = {"input_ids": padded(rows).to(model.device), "use_cache": False}
        newest = torch.tensor([len(row) - 1 for row in rows])
        logits, _ = yield ForwardJob(inputs, torch.arange(len(rows)), newest, within)
        tokens = choose(logits) if choose else most_likely(model, logits)
        _take(tokens.tolist(), ends, remaining, answers)
    return answers


def _take(
    tokens: Sequence[int],
    ends: Sequence[Collection[int]],
    remaining: list[int],
    answers: list[list[int]],
) -> None:
    """Add each row's next token to its answer, unless that has ended or ends with it."""
    for row, token in enumerate(tokens):
        if token in ends[row]:
            remaining[row] = 0
        if remaining[row]:
            answers[row].append(token)
            remaining[row] -= 1


def decode_groups(
    model: EditableModel,
    widths: Mapping[int, int],
    batch_tokens: int,
    group_tokens: int | None = None,
) -> list[list[list[int]]]:
    """Batches to decode, by groups that run together: their caches are in memory at once.

    Args:
        model: with streamed weights every batch of a group gets a token per reading of the blocks.
        widths: tokens of a prompt and its answer, by item.
        batch_tokens: tokens in one batch at most; fewer where memory asks for it.
        group_tokens: tokens of a group at most; None: what memory is planned for.
    """
    budget, cache = model.memory.activation_budget, model.memory.cache_bytes
    block = model.memory.block_token_bytes
    batches = memory.batches(widths, min(batch_tokens, int(budget / (block + cache))))
    sizes = [len(batch) * widths[batch[0]] for batch in batches]
    limit = (budget - max(sizes, default=0) * block) // cache
    limit = limit if group_tokens is None else min(limit, group_tokens)
    return [[batches[i] for i in group] for group in model.groups(sizes, limit)]
