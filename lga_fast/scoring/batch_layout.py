"""How pairs become one batch of tokens: two rows each, or one packed row with a shared prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import additive_mask, padded
from lga_fast.scoring.pairs import Pair
from lga_fast.tokens import Row


class Batch(NamedTuple):
    """Pairs that run together."""

    pairs: list[int]
    packed: bool
    checkpointed: bool = False  # keeps what enters its blocks, and runs each of them twice


@dataclass(frozen=True)
class Layout:
    """One batch. Losses are numbered: the old answers' first, then the new answers'."""

    ids: Int[Tensor, "row token"]
    inputs: dict[str, Tensor]  # what the forward needs beside the ids
    old: Int[Tensor, "pair 2"]  # stretch of the flat token axis that an old answer's gradient fills
    new: Int[Tensor, "pair 2"]
    loss: Int[Tensor, " label"]  # which loss a label belongs to
    row: Int[Tensor, " label"]
    token: Int[Tensor, " label"]  # the place that predicts the label
    label: Int[Tensor, " label"]
    answer: Bool[Tensor, " label"]  # the label is an answer's, not a prompt's
    packed: bool


def can_pack(model: EditableModel, pair: Pair) -> bool:
    """Whether a packed row gives the same scores: see `packed` for what it asks of a model."""
    if pair.old is None:
        return False
    same_prompt = pair.old.ids[: pair.old.start] == pair.new.ids[: pair.new.start]
    return model.takes_masks and same_prompt and width(pair, True) <= model.window


def packing_pays(pair: Pair) -> bool:
    """Whether packing saves more forward than it adds backward.

    With p packed and s separate tokens a packed row costs p forward and 2p backward (one backward
    for each answer), separate rows s and s.
    """
    separate = (len(row.ids) - 1 for row in (pair.old, pair.new) if row)
    return 3 * width(pair, True) < 2 * sum(separate)


def width(pair: Pair, packed: bool) -> int:
    """Tokens of a packed row, or of the longer of two rows. A last token predicts nothing."""
    if packed and pair.old:
        return len(pair.old.ids) + len(pair.new.target) - 2
    return max(len(row.ids) for row in (pair.old, pair.new) if row) - 1


def separate(pairs: Sequence[Pair], full: bool) -> Layout:
    """Old rows, then new rows; without old answers the new rows stand on both sides."""
    old, new = [p.old for p in pairs if p.old], [p.new for p in pairs]
    rows = old + new
    ids = padded([row.ids[:-1] for row in rows])
    starts = torch.arange(len(rows)) * ids.shape[1]
    spans = torch.stack([starts, torch.tensor([len(row.ids) - 1 for row in rows])], 1)
    first = len(new) - len(old)  # number of the first row's loss
    labels = [
        (first + i, i, t - 1, row.ids[t], t >= row.start)
        for i, row in enumerate(rows)
        for t in _labels(row, full)
    ]
    sides = spans[: len(new)], spans[-len(new) :]
    return Layout(ids, {}, *sides, *_columns(labels), packed=False)


def packed(pairs: Sequence[Pair], full: bool, dtype: torch.dtype) -> Layout:
    """Rows of prompt, old answer, new answer; the new answer does not see the old one.

    Both answers stand at the places that follow the prompt. Each loss gets its own backward; the
    other answer's tokens have no part in it, so its gradients there are exactly zero.
    """
    both = [(p.old, p.new) for p in pairs if p.old]
    ids = padded([(*old.ids[:-1], *new.target[:-1]) for old, new in both])
    count, longest = ids.shape
    spans = torch.tensor([[i * longest, width(p, True)] for i, p in enumerate(pairs)])
    labels, places = [], torch.arange(longest).repeat(count, 1)
    hidden = torch.ones(longest, longest, dtype=torch.bool).triu(1).repeat(count, 1, 1)
    for i, (old, new) in enumerate(both):
        begin, fork = old.start, len(old.ids) - 1  # of the old, of the new answer
        hidden[i, fork:, begin:fork] = True
        places[i, fork:] -= fork - begin
        for t in _labels(old, full):
            labels.append((i, i, t - 1, old.ids[t], t >= begin))
        for t in _labels(new, full):
            at = t - 1 if t <= begin else t - 1 + fork - begin
            labels.append((count + i, i, at, new.ids[t], t >= begin))
    inputs = {"attention_mask": additive_mask(hidden, dtype), "position_ids": places}
    return Layout(ids, inputs, spans, spans, *_columns(labels), packed=True)


def _columns(labels: list[tuple[int, int, int, int, bool]]) -> tuple[Tensor, ...]:
    *numbers, answer = torch.tensor(labels).T
    return (*numbers, answer.bool())


def _labels(row: Row, full: bool) -> range:
    return range(1 if full else row.start, len(row.ids))
