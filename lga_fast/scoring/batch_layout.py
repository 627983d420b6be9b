"""Which pairs run together, and how they become one batch of tokens.

A pair is two rows, or one packed row in which both answers share the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lga_fast import memory
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import additive_mask, padded
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import Pair
from lga_fast.tokens import Row

# Padding is computed like all else: more batches cost less than much of it.
_ALIKE = 2 / 3


class Batch(NamedTuple):
    """Pairs that run together."""

    pairs: list[int]
    packed: bool
    checkpointed: bool = False  # keeps what enters its blocks, and runs each of them twice


_NONE = torch.empty(0, 2, dtype=torch.long)


@dataclass(frozen=True)
class Layout:
    """One batch. Losses are numbered: the old answers' first, then the new answers', the probes'.

    Probes are rows beside those of their pair.
    """

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
    probes: Int[Tensor, "probe 2"] = _NONE  # stretches of their rows
    probe_of: Int[Tensor, "probe 2"] = _NONE  # the pair of the batch, and the slot

    @cached_property
    def read(self) -> Int[Tensor, " place"]:
        """Places of the flat token axis that the head reads, in order."""
        return (self.row * self.ids.shape[1] + self.token).unique()

    def read_of(self, rows: Int[Tensor, "row 2"]) -> Int[Tensor, "row 2"]:
        """Stretches of `read` that lie in these stretches of the token axis."""
        ends = torch.stack([rows[:, 0], rows.sum(1)], 1)
        first, stop = torch.searchsorted(self.read, ends).unbind(1)
        return torch.stack([first, stop - first], 1)


def plan_batches(
    model: EditableModel,
    pairs: Sequence[Pair],
    options: ScoringOptions,
    batch_tokens: int,
    checkpointed: bool = False,
) -> list[Batch]:
    """Pairs that run together, within `batch_tokens` and memory.

    With resident weights, pairs whose activations do not fit one by one are checkpointed, or all
    pairs if `checkpointed`. Where a pass may take longer to launch than to compute, all pairs or
    none are packed if that saves launches, and padding is no reason for another batch. The model is
    frozen by the caller.
    """
    able = [can_pack(model, pair) for pair in pairs]
    choices = [[can and packing_pays(pair) for can, pair in zip(able, pairs, strict=True)]]
    launching = launch_tokens(model)
    if launching:
        choices += [able, [False] * len(pairs)]
    plans = [
        list(_plan(model, pairs, packs, options, batch_tokens, checkpointed, not launching))
        for packs in choices
    ]
    return min(plans, key=lambda plan: sum(_cost(pairs, batch, launching) for batch in plan))


def launch_tokens(model: EditableModel) -> float:
    """Tokens of a pass that are computed in the time in which it is launched; 0 on a CPU.

    An estimate for an H100, not a measurement: the host takes 0.2 ms to launch a block, in which
    the device does 4e10 multiply-adds, two thirds of them in the MLP.
    """
    if model.device.type != "cuda" or model.streamed:
        return 0.0
    weights = sum(model.size(model.mlp_layers[0], name) for name in model.parameter_names())
    return 4e10 / (1.5 * weights)


def _cost(pairs: Sequence[Pair], batch: Batch, launching: float) -> float:
    """Time of a batch in tokens of a pass over the blocks: a forward, one or two backwards."""
    longest = max(_tokens(pairs[i], batch.packed) for i in batch.pairs)
    return (3 if batch.packed else 2) * (launching + len(batch.pairs) * longest)


def _plan(
    model: EditableModel,
    pairs: Sequence[Pair],
    packs: Sequence[bool],
    options: ScoringOptions,
    batch_tokens: int,
    checkpointed: bool,
    split: bool,
) -> Iterator[Batch]:
    """Batches, if these pairs are packed; `split`: rather more batches than much padding."""
    budget, logit_bytes = model.memory.activation_budget, model.memory.logit_bytes
    for packed in (True, False):
        widths = {i: _tokens(p, packed) for i, p in enumerate(pairs) if packs[i] == packed}
        shares = (_label_share(pairs[i], widths[i], options) for i in widths)
        logits = max(shares, default=0) * logit_bytes
        whole = model.memory.token_bytes() + logits
        twice = {i for i in widths if checkpointed or widths[i] * whole > budget}
        if model.streamed or not twice or model.block_runner() is None:
            twice = set()
        for part in (set(widths) - twice, twice):
            per_token = model.memory.token_bytes(part is twice) + logits
            limit = min(batch_tokens, int(budget / per_token))
            sizes = {i: widths[i] for i in widths if i in part}
            for together in memory.batches(sizes, limit, _ALIKE if split else 0):
                yield Batch(together, packed, part is twice)


def _tokens(pair: Pair, packed: bool) -> int:
    """Tokens of all rows of a pair, padded to the longest of them."""
    rows = 1 if packed or pair.old is None else 2
    return (rows + len(pair.probes)) * width(pair, packed)


def _label_share(pair: Pair, width: int, options: ScoringOptions) -> float:
    """Labels per token of a row; an upper estimate."""
    answers = sum(len(row.target) for row in _rows(pair))
    return 2 if options.loss_scope == "full" else answers / width


def lay_out(
    model: EditableModel, pairs: Sequence[Pair], batch: Batch, options: ScoringOptions
) -> Layout:
    """The tokens of a batch of these pairs."""
    chosen, full = [pairs[i] for i in batch.pairs], options.loss_scope == "full"
    return packed(chosen, full, model.dtype) if batch.packed else separate(chosen, full)


def can_pack(model: EditableModel, pair: Pair) -> bool:
    """Whether a packed row gives the same scores: see `packed` for what it asks of a model."""
    if pair.old is None or pair.probes:
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
    return max(len(row.ids) for row in _rows(pair)) - 1


def _rows(pair: Pair) -> list[Row]:
    return [row for row in (pair.old, pair.new, *(row for _, row in pair.probes)) if row]


def separate(pairs: Sequence[Pair], full: bool) -> Layout:
    """Old rows, new rows, probes; without old answers the new rows stand on both sides."""
    old, new = [p.old for p in pairs if p.old], [p.new for p in pairs]
    probes = [(i, slot, row) for i, p in enumerate(pairs) for slot, row in p.probes]
    rows = old + new + [row for _, _, row in probes]
    ids = padded([row.ids[:-1] for row in rows])
    starts = torch.arange(len(rows)) * ids.shape[1]
    spans = torch.stack([starts, torch.tensor([len(row.ids) - 1 for row in rows])], 1)
    first = len(new) - len(old)  # number of the first row's loss
    labels = [
        (first + i, i, t - 1, row.ids[t], t >= row.start)
        for i, row in enumerate(rows)
        for t in _labels(row, full)
    ]
    sides = spans[: len(new)], spans[len(old) : len(old) + len(new)]
    probe_of = torch.tensor([(i, slot) for i, slot, _ in probes], dtype=torch.long).view(-1, 2)
    probed = spans[len(old) + len(new) :]
    return Layout(
        ids, {}, *sides, *_columns(labels), packed=False, probes=probed, probe_of=probe_of
    )


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
