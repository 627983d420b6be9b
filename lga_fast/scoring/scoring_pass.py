"""What a scoring pass makes of a batch: rows, losses, and what taps add to the sums."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lga_fast import memory, ops
from lga_fast.models import EditableModel, Tap, Taps
from lga_fast.models.block_runner import BlockRunner
from lga_fast.models.tensor_utils import wide
from lga_fast.scoring import batch_layout
from lga_fast.scoring.batch_layout import Batch
from lga_fast.scoring.pairs import Pair

# float16 gradients of a mean loss underflow; the scores are divided by the square of this.
_FP16_SCALE = 1024.0
# Padding is computed like all else: more batches cost less than much of it.
_ALIKE = 2 / 3


class ScoringPass:
    """Rows, losses and sums of one scoring pass."""

    def __init__(
        self,
        model: EditableModel,
        pairs: list[Pair],
        loss_scope: str,
        reduction: str,
        abs_new: bool,
    ) -> None:
        self.model, self.pairs = model, pairs
        self.full, self.mean = loss_scope == "full", reduction == "mean"
        self.scale = _FP16_SCALE if model.dtype == torch.float16 else 1.0
        self.names = model.parameter_names()
        # axis 0: dot, norm2_old, norm2_new, and abs_new where it is asked for
        size = (4 if abs_new else 3, len(self.names), len(pairs), model.layers)
        self.sums = torch.zeros(size, dtype=torch.float64, device=model.device)
        self.per_expert: dict[str, Tensor] = {}  # dot product [request layer expert]
        self.losses = torch.zeros(2, len(pairs), dtype=torch.float64)
        self.says_new = torch.zeros(len(pairs), dtype=torch.bool)
        self.sequence_forwards = 0  # rows that ran; a backward to activations counts as a forward

    @cached_property
    def walked(self) -> BlockRunner | None:
        """The model block by block; None: it cannot run so."""
        return self.model.block_runner()

    def batches(self, batch_tokens: int, checkpointed: bool = False) -> Iterator[Batch]:
        """Pairs that run together, within `batch_tokens` and memory.

        With resident weights, pairs whose activations do not fit one by one are checkpointed; or
        all of them.
        """
        left = self.model.memory.activation_budget
        pack = [
            batch_layout.can_pack(self.model, p) and batch_layout.packing_pays(p)
            for p in self.pairs
        ]
        for packed in (True, False):
            rows = 1 if packed or self.pairs[0].old is None else 2
            widths = {
                i: rows * batch_layout.width(p, packed)
                for i, p in enumerate(self.pairs)
                if pack[i] == packed
            }
            labels = max((self._label_share(self.pairs[i], widths[i]) for i in widths), default=0)
            logits = labels * self.model.memory.logit_bytes
            whole = self.model.memory.token_bytes() + logits
            twice = {i for i in widths if checkpointed or widths[i] * whole > left}
            if self.model.streamed or not twice or not self.walked:
                twice = set()
            for part in (set(widths) - twice, twice):
                per_token = self.model.memory.token_bytes(part is twice) + logits
                limit = min(batch_tokens, int(left / per_token))
                sizes = {i: widths[i] for i in widths if i in part}
                for pairs in memory.batches(sizes, limit, _ALIKE):
                    yield Batch(pairs, packed, part is twice)

    def activation_bytes(self, batch: Batch) -> int:
        """Bytes that a batch holds at once; an upper estimate."""
        made = self.made(batch)
        per_token = self.model.memory.token_bytes(batch.checkpointed)
        return made.ids.numel() * per_token + len(made.label) * self.model.memory.logit_bytes

    def _label_share(self, pair: Pair, width: int) -> float:
        answers = sum(len(row.target) for row in (pair.old, pair.new) if row)
        return 2 if self.full else answers / width

    def made(self, batch: Batch) -> batch_layout.Layout:
        """The tokens of a batch."""
        pairs = [self.pairs[i] for i in batch.pairs]
        if batch.packed:
            return batch_layout.packed(pairs, self.full, self.model.dtype)
        return batch_layout.separate(pairs, self.full)

    def inputs(self, made: batch_layout.Layout) -> dict[str, Any]:
        """What the model's forward takes for a batch, on its device."""
        inputs = {"input_ids": made.ids, **made.inputs}
        return {name: t.to(self.model.device) for name, t in inputs.items()} | {"use_cache": False}

    def run(self, batch: Batch) -> None:
        """Score these pairs and add what they give to the sums."""
        made = self.made(batch)
        with torch.enable_grad(), self.taps(batch.pairs, made):
            backward(*self.head(batch.pairs, made))

    def taps(
        self,
        batch: list[int],
        made: batch_layout.Layout,
        layers: Collection[int] | None = None,
        backwards: int | None = None,
    ) -> Taps:
        """Taps that add what a batch's backward gives to the sums; `backwards` as of `Taps`."""
        where = torch.tensor(batch, device=self.model.device)
        first: dict[tuple[int, str], Tensor] = {}  # gradients of the old answers, when packed

        def on_tap(tap: Tap) -> None:
            key = (tap.layer, tap.matrix)
            if made.packed and key not in first:
                first[key] = tap.d
            else:
                self._add(tap, first.pop(key, tap.d), made, where)

        expected = 2 if made.packed else 1
        return self.model.taps(on_tap, expected if backwards is None else backwards, layers)

    def head(self, batch: list[int], made: batch_layout.Layout) -> tuple[Tensor, list[Tensor]]:
        """Hidden states that the head read [label d_model], and gradients to send back from there.

        The gradients of all losses together, or, of a packed batch, those of the old answers'
        losses and those of the new ones'.
        """
        hidden, gradient = self._head(batch, made)
        self.sequence_forwards += len(made.ids) * (3 if made.packed else 2)
        if not made.packed:
            return hidden, [gradient]
        of_old = (made.loss < len(batch)).unsqueeze(1).to(hidden.device)
        return hidden, [gradient * of_old, gradient * ~of_old]

    def _head(self, batch: list[int], made: batch_layout.Layout) -> tuple[Tensor, Tensor]:
        """Hidden states that the head read [label d_model], and the losses' gradient there.

        The head's part of the graph ends at a leaf: its backward runs once for both answers, and
        the logits are gone before the backward through the blocks begins.
        """
        kept: list[Tensor] = []

        def cut(hidden: Tensor) -> Tensor:
            kept.extend((hidden, hidden.detach().requires_grad_()))
            return kept[1]

        inputs = self.inputs(made)
        ids = inputs.pop("input_ids")
        logits, _ = self.model.logits_at(ids, made.row, made.token, cut, **inputs)
        label = made.label.to(logits.device)
        entropy = torch.nn.functional.cross_entropy(wide(logits), label, reduction="none")
        labels = made.loss.bincount()[made.loss] if self.mean else torch.ones_like(made.loss)
        share = 1 / labels.to(entropy)
        ((entropy * share).sum() * self.scale).backward()
        # Added on the CPU, where the order of a sum is the same every time.
        each = (entropy.detach() * share).double().cpu()
        sums = each.new_zeros(2 * len(batch)).index_add(0, made.loss, each)
        self.losses[:, batch] = sums.view(2, -1)
        missed = (made.answer & (logits.argmax(-1) != label).cpu()).long()
        missed = torch.zeros(2 * len(batch), dtype=torch.long).index_add(0, made.loss, missed)
        self.says_new[batch] = missed[len(batch) :] == 0
        hidden, leaf = kept
        assert leaf.grad is not None
        return hidden, leaf.grad

    def _add(self, tap: Tap, d_old: Tensor, made: batch_layout.Layout, where: Tensor) -> None:
        factors = {"weight": tap.a}
        if f"{tap.matrix}.bias" in self.names:
            factors["bias"] = tap.a.new_ones(len(tap.a), 1)  # a bias is a weight on the input 1
        rows = [tap.routing.rows(side) if tap.routing else side for side in (made.old, made.new)]
        for part, a in factors.items():
            found = ops.grad_dot(a, d_old, rows[0], a, tap.d, rows[1]).to(self.sums)
            found = found.view(-1, len(where), 3) / self.scale**2  # axis 0: of experts, else of one
            name = self.names.index(f"{tap.matrix}.{part}")
            self.sums[:3, name, where, tap.layer] = found.sum(0).T
            if tap.routing:
                shape = (len(self.pairs), self.model.layers, self.model.experts)
                dot = self.per_expert.setdefault(self.names[name], self.sums.new_zeros(shape))
                dot[where, tap.layer, : len(found)] = found[:, :, 0].T
            if len(self.sums) > 3 and part == "weight":
                total = ops.grad_abs_sum(a, tap.d, rows[1]).to(self.sums).view(-1, len(where))
                self.sums[3, name, where, tap.layer] = total.sum(0) / self.scale


def backward(
    output: Tensor, gradients: Sequence[Tensor], leaf: Tensor | None = None
) -> list[Tensor]:
    """Send these gradients back from `output`, each on its own; the graph is gone afterwards.

    Returns:
        The gradients that arrive at `leaf`, where there is one.
    """
    found = []
    for i, gradient in enumerate(gradients):
        output.backward(gradient, retain_graph=i + 1 < len(gradients))
        if leaf is not None:
            assert leaf.grad is not None
            found.append(leaf.grad)
            leaf.grad = None
    return found
