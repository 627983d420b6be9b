"""Free continuations of many prompts at once, each by a model with its own edit."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast import memory, progress
from lga_fast.errors import ScoringError
from lga_fast.forward import decoding
from lga_fast.forward.per_row_edits import PerRowEdits
from lga_fast.models import EditableModel, check_loaded
from lga_fast.models.tensor_utils import grad_mode, wide
from lga_fast.tokens import encode_prompt
from lga_fast.weight_edit import WeightEdit

Sampler = Literal["greedy", "top5"]


@dataclass(frozen=True)
class Continuation:
    """A prompt to continue, and how."""

    prompt: str
    max_total_tokens: int = 100  # the prompt's own included; never more than the model takes
    past_end: bool = False  # go on after an end-of-text token
    sampler: Sampler = "greedy"  # "top5": sampled from the five most likely tokens
    seed: int = 42  # of the samples, which do not depend on the other prompts of a batch


@dataclass(frozen=True)
class GeneratedText:
    """What a model wrote; both texts are without special tokens."""

    text: str  # prompt and continuation
    continuation: str


def generate(
    model: EditableModel,
    prompts: Sequence[Continuation],
    edits: Sequence[WeightEdit | None] | None = None,
    *,
    batch_tokens: int = 4096,
    show_progress: bool | None = None,
) -> list[GeneratedText]:
    """Continue all prompts, each by a model with its own edit; the model is left as it was.

    Args:
        model: see `lga_fast.load`.
        prompts: what to continue; a prompt of `max_total_tokens` or more gets no new token.
        edits: one per prompt, None where there is none; None for all: the model as it stands.
        batch_tokens: most tokens held at a time, fewer where memory requires it.
        show_progress: None shows a bar on a terminal only.

    Raises:
        ScoringError: a prompt is empty, or there is not one edit per prompt.
        EditError: an edit is not of this model.
    """
    check_loaded(model)
    if edits is not None and len(edits) != len(prompts):
        raise ScoringError(f"edits: expected one per prompt, {len(prompts)}, got {len(edits)}")
    row_edits = PerRowEdits(model, edits or [None] * len(prompts))
    starts = [encode_prompt(model.tokenizer, ask.prompt) for ask in prompts]
    if not all(starts):
        raise ScoringError("expected prompts of one token or more, got an empty one")
    new_ids: dict[int, list[int]] = {}
    with (
        grad_mode(False),
        model.frozen(),
        progress.bar("continuing prompts", len(prompts), show_progress) as advance,
    ):
        for batches in _lockstep_groups(model, prompts, starts, row_edits, batch_tokens):
            continued = _continue(model, prompts, starts, row_edits, batches)
            for batch, ids in zip(batches, continued, strict=True):
                new_ids |= zip(batch, ids, strict=True)
                advance(len(batch))
    decode = partial(model.tokenizer.decode, skip_special_tokens=True)
    return [
        GeneratedText(decode([*start, *new_ids.get(i, [])]), decode(new_ids.get(i, [])))
        for i, start in enumerate(starts)
    ]


def _batches(
    model: EditableModel,
    prompts: Sequence[Continuation],
    starts: Sequence[list[int]],
    row_edits: PerRowEdits,
    batch_tokens: int,
) -> Iterator[list[int]]:
    """Prompts to run together, within `batch_tokens` and memory; without those that are full."""
    sizes = {i: len(start) for i, start in enumerate(starts)}
    totals = {i: _total(model, prompts[i]) for i in sizes if sizes[i] < _total(model, prompts[i])}
    if not totals:
        return
    columns = row_edits.columns(batch_tokens // min(totals.values()))
    factors = 4 * columns * sum(model.edited_shape)
    per_token = model.memory.token_bytes() + 4 * columns
    per_token += model.memory.logit_bytes / max(totals.values())
    budget = model.memory.activation_budget // (2 if model.streamed else 1)  # half for caches
    limit = min(batch_tokens, int((budget - factors) / per_token))
    # Padding between a short prompt and its continuation takes places in a sliding window, and in
    # some models' tables of positions.
    longest = max(sizes[i] for i in totals) + max(totals[i] - sizes[i] for i in totals)
    no_padding = longest > min(model.window, model.max_tokens)
    groups: dict[int, dict[int, int]] = {}
    for i, total in totals.items():
        groups.setdefault(sizes[i] if no_padding else 0, {})[i] = total
    for widths in groups.values():
        yield from memory.batches(widths, limit)


def _total(model: EditableModel, ask: Continuation) -> int:
    return min(ask.max_total_tokens, model.max_tokens)


def _lockstep_groups(
    model: EditableModel,
    prompts: Sequence[Continuation],
    starts: Sequence[list[int]],
    row_edits: PerRowEdits,
    batch_tokens: int,
) -> Iterator[list[list[int]]]:
    """Groups of batches that get a token each whenever streamed blocks are read."""
    batches = list(_batches(model, prompts, starts, row_edits, batch_tokens))
    sizes = [len(batch) * max(_total(model, prompts[i]) for i in batch) for batch in batches]
    limit = model.memory.activation_budget // (2 * model.memory.cache_bytes)
    for group in model.groups(sizes, limit):
        yield [batches[i] for i in group]


def _continue(
    model: EditableModel,
    prompts: Sequence[Continuation],
    starts: Sequence[list[int]],
    row_edits: PerRowEdits,
    batches: Sequence[list[int]],
) -> list[list[list[int]]]:
    """Token ids that follow each prompt, by batch."""
    steps = []
    for batch in batches:
        asks = [prompts[i] for i in batch]
        lengths = [_total(model, ask) - len(starts[i]) for i, ask in zip(batch, asks, strict=True)]
        ends = [set() if ask.past_end else model.end_ids() for ask in asks]
        draws = {i: _generator(ask) for i, ask in enumerate(asks) if ask.sampler == "top5"}
        pick = partial(_pick, model, draws)
        within = partial(row_edits.on, [row_edits.of_row[i] for i in batch])
        ids = [starts[i] for i in batch]
        steps.append(decoding.steps_of(model, ids, lengths, ends, pick, within))
    longest = max(_total(model, prompts[i]) - len(starts[i]) for b in batches for i in b)
    return decoding.decode(model, steps, longest)


def _generator(ask: Continuation) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(ask.prompt.encode(), ask.seed))


def _pick(
    model: EditableModel, draws: dict[int, torch.Generator], logits: Float[Tensor, "row vocab"]
) -> Int[Tensor, " row"]:
    """The most likely token of each row, or one sampled from its five most likely."""
    picked = decoding.most_likely(model, logits)
    for row, generator in draws.items():
        top = wide(logits[row]).topk(min(5, logits.shape[1]))
        draw = torch.multinomial(top.values.softmax(-1).cpu(), 1, generator=generator)
        picked[row] = top.indices.cpu()[draw]
    return picked
