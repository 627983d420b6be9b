"""One batch of a scoring pass: its losses, and what taps add to the sums during the backward."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from lga_fast import ops
from lga_fast.models import EditableModel, Tap, Taps
from lga_fast.models.tensor_utils import wide
from lga_fast.scoring.batch_layout import Batch, Layout, lay_out
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import Pair
from lga_fast.scoring.subject_sums import SubjectSums

# float16 gradients of a mean loss underflow; the scores are divided by the square of this.
_FP16_SCALE = 1024.0


class ScoringPass:
    """Losses and sums of one scoring pass, filled batch by batch."""

    def __init__(self, model: EditableModel, pairs: list[Pair], options: ScoringOptions) -> None:
        self.model, self.pairs, self.options = model, pairs, options
        self.scale = _FP16_SCALE if model.dtype == torch.float16 else 1.0
        self.names = model.parameter_names()
        # axis 0: dot, norm2_old, norm2_new, and abs_new where it is asked for
        size = (4 if options.abs_new else 3, len(self.names), len(pairs), model.layers)
        self.sums = torch.zeros(size, dtype=torch.float64, device=model.device)
        self.per_expert: dict[str, Tensor] = {}  # dot product [request layer expert]
        self.at_subject = SubjectSums(model, pairs, self.scale) if options.at_subject else None
        self.losses = torch.zeros(2, len(pairs), dtype=torch.float64)
        self.says_new = torch.zeros(len(pairs), dtype=torch.bool)
        self.sequence_forwards = 0  # rows that ran; a backward to activations counts as a forward

    def tensors(self) -> dict[str, Tensor]:
        """What it fills, by name, apart from `per_expert`."""
        own = {"sums": self.sums, "losses": self.losses, "says_new": self.says_new}
        return own | (self.at_subject.tensors() if self.at_subject else {})

    def layout(self, batch: Batch) -> Layout:
        """The tokens of a batch."""
        return lay_out(self.model, self.pairs, batch, self.options)

    def inputs(self, layout: Layout) -> dict[str, Any]:
        """What the model's forward takes for a batch, on its device."""
        inputs = {"input_ids": layout.ids, **layout.inputs}
        return {name: t.to(self.model.device) for name, t in inputs.items()} | {"use_cache": False}

    def run(self, batch: Batch) -> None:
        """Score these pairs and add what they give to the sums."""
        layout = self.layout(batch)
        with torch.enable_grad(), self.taps(batch.pairs, layout):
            backward(*self.head(batch.pairs, layout))

    def taps(
        self,
        batch: list[int],
        layout: Layout,
        layers: Collection[int] | None = None,
        backwards: int | None = None,
    ) -> Taps:
        """Taps that add what a batch's backward gives to the sums; `backwards` as of `Taps`."""
        where = torch.tensor(batch, device=self.model.device)
        first: dict[tuple[int, str], Tensor] = {}  # gradients of the old answers, when packed

        def on_tap(tap: Tap) -> None:
            key = (tap.layer, tap.matrix)
            if layout.packed and key not in first:
                first[key] = tap.d
            else:
                self._add(tap, first.pop(key, tap.d), layout, where)
                if self.at_subject and tap.matrix == self.model.family.edited:
                    self.at_subject.add(tap, layout, batch)

        expected = 2 if layout.packed else 1
        return self.model.taps(on_tap, expected if backwards is None else backwards, layers)

    def head(self, batch: list[int], layout: Layout) -> tuple[Tensor, list[Tensor]]:
        """Hidden states that the head read [label d_model], and gradients to send back from there.

        The gradients of all losses together, or, of a packed batch, those of the old answers'
        losses and those of the new ones'.
        """
        hidden, gradient = self._head(batch, layout)
        self.sequence_forwards += len(layout.ids) * (3 if layout.packed else 2)
        if not layout.packed:
            return hidden, [gradient]
        of_old = (layout.loss < len(batch)).unsqueeze(1).to(hidden.device)
        return hidden, [gradient * of_old, gradient * ~of_old]

    def _head(self, batch: list[int], layout: Layout) -> tuple[Tensor, Tensor]:
        """Hidden states that the head read [label d_model], and the losses' gradient there.

        The head's part of the graph ends at a leaf: its backward runs once for both answers, and
        the logits are gone before the backward through the blocks begins.
        """
        sides: list[Tensor] = []  # of the cut: what the blocks gave, what the head reads

        def cut(hidden: Tensor) -> Tensor:
            sides.extend((hidden, hidden.detach().requires_grad_()))
            return sides[1]

        inputs = self.inputs(layout)
        ids = inputs.pop("input_ids")
        logits, _ = self.model.logits_at(ids, layout.row, layout.token, cut, **inputs)
        label = layout.label.to(logits.device)
        entropy = torch.nn.functional.cross_entropy(wide(logits), label, reduction="none")
        mean = self.options.reduction == "mean"
        labels = layout.loss.bincount()[layout.loss] if mean else torch.ones_like(layout.loss)
        share = 1 / labels.to(entropy)
        ((entropy * share).sum() * self.scale).backward()
        # Added on the CPU, where the order of a sum is the same every time.
        each = (entropy.detach() * share).double().cpu()
        self.model.check_logits(each)
        count = len(batch)
        sums = each.new_zeros(2 * count + len(layout.probes)).index_add(0, layout.loss, each)
        self.losses[:, batch] = sums[: 2 * count].view(2, -1)
        if self.at_subject:
            self.at_subject.add_losses(sums[2 * count :], layout, batch)
        missed = (layout.answer & (logits.argmax(-1) != label).cpu()).long()
        missed = torch.zeros(len(sums), dtype=torch.long).index_add(0, layout.loss, missed)
        self.says_new[batch] = missed[count : 2 * count] == 0
        hidden, leaf = sides
        assert leaf.grad is not None
        return hidden, leaf.grad

    def _add(self, tap: Tap, d_old: Tensor, layout: Layout, where: Tensor) -> None:
        factors = {"weight": tap.a}
        if f"{tap.matrix}.bias" in self.names:
            factors["bias"] = tap.a.new_ones(len(tap.a), 1)  # a bias is a weight on the input 1
        rows = [layout.old, layout.new]
        if tap.routing:
            rows = [tap.routing.rows(side) for side in rows]
        for part, a in factors.items():
            dots = ops.grad_dot(a, d_old, rows[0], a, tap.d, rows[1]).to(self.sums)
            dots = dots.view(-1, len(where), 3) / self.scale**2  # axis 0: of experts, else of one
            name = self.names.index(f"{tap.matrix}.{part}")
            self.sums[:3, name, where, tap.layer] = dots.sum(0).T
            if tap.routing:
                shape = (len(self.pairs), self.model.layers, self.model.experts)
                dot = self.per_expert.setdefault(self.names[name], self.sums.new_zeros(shape))
                dot[where, tap.layer, : len(dots)] = dots[:, :, 0].T
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
    arrived = []
    for i, gradient in enumerate(gradients):
        output.backward(gradient, retain_graph=i + 1 < len(gradients))
        if leaf is not None:
            assert leaf.grad is not None
            arrived.append(leaf.grad)
            leaf.grad = None
    return arrived
