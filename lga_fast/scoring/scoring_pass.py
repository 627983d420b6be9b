"""One batch of a scoring pass: its losses, and what taps add to the sums during the backward."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lga_fast import ops
from lga_fast.forward.token_subset import at_tokens, last_mlp
from lga_fast.models import EditableModel, Tap
from lga_fast.models.module_patching import patched_forwards
from lga_fast.models.tensor_utils import grad_mode, to_device, wide
from lga_fast.scoring.arrival import Arrival
from lga_fast.scoring.batch_layout import Batch, Layout, lay_out
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import ASKED, Pair
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
        self.sums = torch.zeros(size, dtype=torch.float64)
        self.per_expert: dict[str, Tensor] = {}  # dot product [request layer expert]
        self.at_subject = SubjectSums(model, pairs, self.scale) if options.at_subject else None
        self.losses = torch.zeros(2, len(pairs), dtype=torch.float64)
        self.says_new = torch.zeros(len(pairs), dtype=torch.bool)
        self.answers = torch.full((len(pairs),), ASKED)  # first tokens that it was asked for
        self.sequence_forwards = 0  # rows that ran; a backward to activations counts as a forward
        self._arriving: list[Arrival] = []
        self._last = None if options.at_subject else last_mlp(model)

    def tensors(self) -> dict[str, Tensor]:
        """What it fills, by name, apart from `per_expert`."""
        names = ("sums", "losses", "says_new", "answers")
        own = {name: getattr(self, name) for name in names}
        return own | (self.at_subject.tensors() if self.at_subject else {})

    def layout(self, batch: Batch) -> Layout:
        """The tokens of a batch."""
        return lay_out(self.model, self.pairs, batch, self.options)

    def inputs(self, layout: Layout) -> dict[str, Any]:
        """What the model's forward takes for a batch, on its device."""
        inputs = {"input_ids": layout.ids, **layout.inputs}
        on_device = {name: to_device(t, self.model.device) for name, t in inputs.items()}
        return on_device | {"use_cache": False}

    def start(self) -> None:
        """Forget what was begun: all batches follow."""
        self.sequence_forwards = 0
        self._arriving.clear()

    def run(self, batch: Batch) -> None:
        """Score these pairs; what they give is added to the sums with the next batch or `finish`.

        So the host never waits for a device that could have got its next batch meanwhile.
        """
        before = len(self._arriving)
        layout = self.layout(batch)
        with grad_mode(True), self.taps(batch.pairs, layout):
            backward(*self.head(batch.pairs, layout))
        self.finish(before)

    def finish(self, count: int | None = None) -> None:
        """Add the oldest `count` results that are on their way from the device, or all of them."""
        for arrival in self._arriving[:count]:
            arrival.take()
        del self._arriving[:count]

    @contextmanager
    def taps(
        self,
        batch: list[int],
        layout: Layout,
        layers: Collection[int] | None = None,
        backwards: int | None = None,
    ) -> Iterator[None]:
        """Taps that add what a batch's backward gives to the sums; `backwards` as of `Taps`."""
        first: dict[tuple[int, str], Tensor] = {}  # gradients of the old answers, when packed
        subjects = self.at_subject and self.at_subject.of_batch(layout, batch)
        taken: list[_Taken] = []
        sums: list[Tensor] = []  # of all that were taken

        def on_tap(tap: Tap) -> None:
            key = (tap.layer, tap.matrix)
            if layout.packed and key not in first:
                first[key] = tap.d
            else:
                taken.append(self._take(tap, first.pop(key, tap.d), layout, sums))
                if subjects and tap.matrix == self.model.family.edited:
                    subjects.add(tap)

        if backwards is None:
            backwards = 2 if layout.packed else 1
        last = self._last if self._only_where_read(layout) else None
        forwards = {last: partial(at_tokens, last.forward, layout.read, None)} if last else {}
        with self.model.taps(on_tap, backwards, layers), patched_forwards(forwards):
            yield
        if sums:
            joined = torch.cat([part.flatten().to(sums[0].device) for part in sums])
            sizes = [part.numel() for part in sums]
            self._arriving.append(Arrival([joined], partial(self._add, batch, taken, sizes)))

    def _only_where_read(self, layout: Layout) -> bool:
        """Whether the last MLP runs only where the head reads; elsewhere no gradient reaches it."""
        return self._last is not None and 2 * len(layout.read) < layout.ids.numel()

    def head(self, batch: list[int], layout: Layout) -> tuple[Tensor, list[Tensor]]:
        """Hidden states that the head read [label d_model], and gradients to send back from there.

        The gradients of all losses together, or, of a packed batch, those of the old answers'
        losses and those of the new ones'.
        """
        hidden, gradient = self._head(batch, layout)
        self.sequence_forwards += len(layout.ids) * (3 if layout.packed else 2)
        if not layout.packed:
            return hidden, [gradient]
        of_old = to_device((layout.loss < len(batch)).unsqueeze(1), hidden.device)
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
        label, best = to_device(layout.label, logits.device), logits.argmax(-1)
        label = torch.where(label == ASKED, best, label)
        entropy = torch.nn.functional.cross_entropy(wide(logits), label, reduction="none")
        mean = self.options.reduction == "mean"
        labels = layout.loss.bincount()[layout.loss] if mean else torch.ones_like(layout.loss)
        share = to_device(1 / labels.to(entropy.dtype), entropy.device)
        ((entropy * share).sum() * self.scale).backward()
        each = (entropy.detach() * share).double()
        add = partial(self._add_losses, batch, layout)
        self._arriving.append(Arrival([each, best, best != label], add))
        hidden, leaf = sides
        assert leaf.grad is not None
        return hidden, leaf.grad

    def _take(self, tap: Tap, d_old: Tensor, layout: Layout, sums: list[Tensor]) -> _Taken:
        rows = [layout.old, layout.new]
        if tap.layer + 1 == self.model.layers and self._only_where_read(layout):
            rows = [layout.read_of(side) for side in rows]
        if tap.routing:
            rows = [tap.routing.rows(side) for side in rows]
        bias = f"{tap.matrix}.bias" in self.names
        sums.append(ops.grad_dot(tap.a, d_old, rows[0], tap.a, tap.d, rows[1], bias=bias))
        if self.options.abs_new:
            sums.append(ops.grad_abs_sum(tap.a, tap.d, rows[1]))
        return _Taken(tap.layer, tap.matrix, bias, tap.routing is not None)

    def _add(self, batch: list[int], taken: list[_Taken], sizes: list[int], joined: Tensor) -> None:
        """Add what taps gave to the sums of their parameters."""
        sums = iter(joined.double().split(sizes))
        for layer, matrix, bias, by_expert in taken:
            # [expert pair part 3]; one expert, where there are none
            dots = next(sums).view(-1, len(batch), 1 + bias, 3) / self.scale**2
            for part in range(1 + bias):
                name = f"{matrix}.{('weight', 'bias')[part]}"
                at = self.names.index(name)
                self.sums[:3, at, batch, layer] = dots[:, :, part].sum(0).T
                if by_expert:
                    shape = (len(self.pairs), self.model.layers, self.model.experts)
                    dot = self.per_expert.setdefault(name, self.sums.new_zeros(shape))
                    dot[batch, layer, : len(dots)] = dots[:, :, part, 0].T
            if self.options.abs_new:
                total = next(sums).view(-1, len(batch)).sum(0) / self.scale
                self.sums[3, self.names.index(f"{matrix}.weight"), batch, layer] = total

    def _add_losses(
        self, batch: list[int], layout: Layout, each: Tensor, best: Tensor, wrong: Tensor
    ) -> None:
        """Add labels' shares of the losses, on the CPU, where the order is the same every time."""
        self.model.check_logits(each)
        asked = layout.label == ASKED
        self.answers[torch.tensor(batch)[layout.loss[asked]]] = best[asked]
        count = len(batch)
        sums = each.new_zeros(2 * count + len(layout.probes)).index_add(0, layout.loss, each)
        self.losses[:, batch] = sums[: 2 * count].view(2, -1)
        if self.at_subject:
            self.at_subject.add_losses(sums[2 * count :], layout, batch)
        missed = (layout.answer & wrong).long()
        missed = torch.zeros(len(sums), dtype=torch.long).index_add(0, layout.loss, missed)
        self.says_new[batch] = missed[count : 2 * count] == 0


class _Taken(NamedTuple):
    """Whose sums a tap gave."""

    layer: int
    matrix: str
    bias: bool  # of the bias too
    by_expert: bool  # first of all pairs at the first expert


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
