"""The scoring pass: old and new rows together, one forward, one backward to activations only."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lga_fast import ops, progress, provenance
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel, Tap, Taps
from lga_fast.models.fused import fused_gelu
from lga_fast.models.streamed import StreamedModel
from lga_fast.models.tensors import wide
from lga_fast.records import EditRequest, LayerScores
from lga_fast.scoring import layout, plan
from lga_fast.scoring.graph import backward
from lga_fast.scoring.pairs import OldAnswer, Pair, build_pairs
from lga_fast.scoring.streamed import Sweeps
from lga_fast.scoring.waiting import InMemory

LossScope = Literal["target", "full"]
Reduction = Literal["mean", "sum"]

# float16 gradients of a mean loss underflow; the scores are divided by the square of this.
_FP16_SCALE = 1024.0


def score_layers(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    *,
    old: OldAnswer | None = "model",
    abs_new: bool = False,
    loss_scope: LossScope = "target",
    reduction: Reduction = "mean",
    batch_tokens: int = 4096,
    show_progress: bool | None = None,
) -> LayerScores:
    """Inner products of old- and new-answer gradients of every MLP parameter, per request.

    φ_l(i) = <∇_θl ℓ(Q_i∪K_i), ∇_θl ℓ(Q_i∪K'_i)> (arXiv 2602.20207 §5.1). Weights are frozen; the
    gradients' factors are contracted inside the backward and dropped, so nothing of a weight's
    size is formed. The model is left as it was.

    Args:
        model: see `lga_fast.load`.
        edits: requests, or dicts in EasyEdit's form.
        old: where the old answers come from; see `scoring.pairs.build_pairs`. None: new answers
            only, which costs less than half.
        abs_new: collect the sums of the new answers' absolute gradients too.
        loss_scope: "target": cross entropy of the answer's tokens; "full": of the prompt's too.
        reduction: over a row's labelled tokens.
        batch_tokens: tokens in one pass at most; lowered where memory asks for it.
        show_progress: None shows bars on a terminal only.

    Raises:
        ScoringError: no request is left to score, or an option is unknown.
        DataError: a dict is not an edit request.
    """
    from lga_fast.datasets import easyedit_requests

    _check(loss_scope, ("target", "full"), "loss_scope")
    _check(reduction, ("mean", "sum"), "reduction")
    requests = easyedit_requests(edits)
    started = time.perf_counter()
    with model.frozen():
        pairs, dropped = build_pairs(model, requests, old, batch_tokens)
        answered = time.perf_counter()
        if not pairs:
            reasons = {d.reason for d in dropped} or {"there are no requests"}
            raise ScoringError(f"nothing to score: {'; '.join(sorted(reasons))}")
        scoring = Pass(model, pairs, loss_scope, reduction, abs_new)
        batches = list(scoring.batches(batch_tokens))
        with fused_gelu(model.hf):
            if isinstance(model, StreamedModel):
                Sweeps(scoring, batches, InMemory(), show_progress).run()
            else:
                scoring.run_all(batches, show_progress)
        values, losses = scoring.sums.cpu(), scoring.losses
        per_expert = {name: dot.cpu().numpy() for name, dot in scoring.per_expert.items()}
    if old is None:
        values[:2], losses[0], per_expert = torch.nan, torch.nan, {}
    names = model.parameter_names()
    parts = [dict(zip(names, part.numpy(), strict=True)) for part in values]
    known = [p.known for p in pairs]
    return LayerScores(
        case_ids=tuple(requests[p.request].case_id for p in pairs),
        dot=parts[0],
        norm2_old=parts[1],
        norm2_new=parts[2],
        loss_old=losses[0].numpy(),
        loss_new=losses[1].numpy(),
        known=scoring.says_new.numpy() if old is None else torch.tensor(known).numpy(),
        says_new=scoring.says_new.numpy(),
        edited=model.family.edited,
        abs_new={n: parts[3][n] for n in names if n.endswith("weight")} if abs_new else {},
        sizes={name: _elements(model, name) for name in names},
        per_expert={name: per_expert[name] for name in names if name in per_expert},
        kinds=tuple(sorted({r.kind for r in requests})),
        dropped=tuple(dropped),
        provenance=provenance.of(model)
        | {
            "old": old,
            "loss_scope": loss_scope,
            "reduction": reduction,
            "data": asdict(requests.provenance),
            "seconds_old_answers": answered - started,
            "seconds_scoring": time.perf_counter() - answered,
            "sequence_forwards": scoring.sequence_forwards + _generated(requests, old),
            "peak_bytes": provenance.peak_bytes(model.device),
        },
    )


def _check(value: str, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise ScoringError(f"{name}={value!r}: expected {' or '.join(map(repr, known))}")


def _generated(requests: Sequence[EditRequest], old: OldAnswer | None) -> int:
    """Old answers that the model was asked for; with a cache each costs about one forward."""
    if old == "ground_truth":
        return sum(not (r.target_old and r.target_old.strip()) for r in requests)
    return len(requests) if old else 0


def _elements(model: EditableModel, name: str) -> np.ndarray:
    return np.array([model.size(layer, name) for layer in range(model.layers)])


class Pass:
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

    def batches(self, batch_tokens: int) -> Iterator[tuple[list[int], bool]]:
        """Pairs that run together, within `batch_tokens` and memory, and whether packed."""
        pack = [layout.can_pack(self.model, p) and layout.packing_pays(p) for p in self.pairs]
        for packed in (True, False):
            rows = 1 if packed or self.pairs[0].old is None else 2
            widths = {
                i: rows * layout.width(p, packed)
                for i, p in enumerate(self.pairs)
                if pack[i] == packed
            }
            labels = max((self._label_share(self.pairs[i], widths[i]) for i in widths), default=0)
            per_token = plan.token_bytes(self.model) + labels * plan.logit_bytes(self.model)
            limit = min(batch_tokens, int(plan.memory_left(self.model) / per_token))
            yield from ((batch, packed) for batch in plan.batches(widths, limit))

    def _label_share(self, pair: Pair, width: int) -> float:
        answers = sum(len(row.target) for row in (pair.old, pair.new) if row)
        return 2 if self.full else answers / width

    def made(self, batch: list[int], packed: bool) -> layout.Layout:
        """The tokens of a batch."""
        pairs = [self.pairs[i] for i in batch]
        if packed:
            return layout.packed(pairs, self.full, self.model.dtype)
        return layout.separate(pairs, self.full)

    def run_all(
        self, batches: Sequence[tuple[list[int], bool]], show_progress: bool | None
    ) -> None:
        """Score all pairs, batch by batch."""
        with progress.bar("scoring facts", len(self.pairs), show_progress) as advance:
            for batch, packed in batches:
                self.run(batch, packed)
                advance(len(batch))

    def run(self, batch: list[int], packed: bool) -> None:
        """Score these pairs and add what they give to the sums."""
        made = self.made(batch, packed)
        with torch.enable_grad(), self.taps(batch, made):
            backward(*self.head(batch, made))

    def taps(
        self, batch: list[int], made: layout.Layout, layers: Collection[int] | None = None
    ) -> Taps:
        """Taps that add what a batch's backward gives to the sums."""
        where = torch.tensor(batch, device=self.model.device)
        first: dict[tuple[int, str], Tensor] = {}  # gradients of the old answers, when packed

        def on_tap(tap: Tap) -> None:
            key = (tap.layer, tap.matrix)
            if made.packed and key not in first:
                first[key] = tap.d
            else:
                self._add(tap, first.pop(key, tap.d), made, where)

        return self.model.taps(on_tap, 2 if made.packed else 1, layers)

    def head(self, batch: list[int], made: layout.Layout) -> tuple[Tensor, list[Tensor]]:
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

    def _head(self, batch: list[int], made: layout.Layout) -> tuple[Tensor, Tensor]:
        """Hidden states that the head read [label d_model], and the losses' gradient there.

        The head's part of the graph ends at a leaf: its backward runs once for both answers, and
        the logits are gone before the backward through the blocks begins.
        """
        kept: list[Tensor] = []

        def cut(hidden: Tensor) -> Tensor:
            kept.extend((hidden, hidden.detach().requires_grad_()))
            return kept[1]

        device = self.model.device
        inputs = {name: tensor.to(device) for name, tensor in made.inputs.items()}
        logits, _ = self.model.logits_at(
            made.ids.to(device), made.row, made.token, cut, use_cache=False, **inputs
        )
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

    def _add(self, tap: Tap, d_old: Tensor, made: layout.Layout, where: Tensor) -> None:
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
