"""The scoring pass: old and new rows together, one forward, one backward to activations only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from lga_fast import ops, progress, provenance
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel, Tap
from lga_fast.records import EditRequest, LayerScores
from lga_fast.scoring import plan
from lga_fast.scoring.pairs import OldAnswer, Pair, Row, build_pairs

LossScope = Literal["target", "full"]
Reduction = Literal["mean", "sum"]

# float16 gradients of a mean loss underflow; the scores are divided by the square of this.
_FP16_SCALE = 1024.0


def score_layers(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    *,
    old: OldAnswer = "model",
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
        old: where the old answers come from; see `scoring.pairs.build_pairs`.
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
        scoring = _Pass(model, pairs, loss_scope, reduction)
        with progress.bar("scoring facts", len(pairs), show_progress) as advance:
            for batch in scoring.batches(batch_tokens):
                scoring.run(batch)
                advance(len(batch))
        values, losses = scoring.sums.cpu(), scoring.losses.cpu()
    parts = [dict(zip(model.parameter_names(), part.numpy(), strict=True)) for part in values]
    return LayerScores(
        case_ids=tuple(requests[p.request].case_id for p in pairs),
        dot=parts[0],
        norm2_old=parts[1],
        norm2_new=parts[2],
        loss_old=losses[0].numpy(),
        loss_new=losses[1].numpy(),
        known=torch.tensor([p.known for p in pairs]).numpy(),
        edited=model.family.edited,
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
            "peak_bytes": provenance.peak_bytes(model.device),
        },
    )


def _check(value: str, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise ScoringError(f"{name}={value!r}: expected {' or '.join(map(repr, known))}")


class _Pass:
    """Rows, losses and sums of one scoring pass."""

    def __init__(
        self, model: EditableModel, pairs: list[Pair], loss_scope: str, reduction: str
    ) -> None:
        self.model, self.pairs = model, pairs
        self.full, self.mean = loss_scope == "full", reduction == "mean"
        self.scale = _FP16_SCALE if model.dtype == torch.float16 else 1.0
        self.names = model.parameter_names()
        size = (3, len(self.names), len(pairs), model.layers)  # axis 0: dot, norm2_old, norm2_new
        self.sums = torch.zeros(size, dtype=torch.float64, device=model.device)
        self.losses = torch.zeros(2, len(pairs), dtype=torch.float64, device=model.device)

    def batches(self, batch_tokens: int) -> list[list[int]]:
        """Pairs that run together, within `batch_tokens` and memory."""
        widths = {i: max(len(p.old.ids), len(p.new.ids)) - 1 for i, p in enumerate(self.pairs)}
        labels = max(len(self._labels(p.new)) / widths[i] for i, p in enumerate(self.pairs))
        per_token = plan.token_bytes(self.model) + labels * plan.logit_bytes(self.model)
        limit = min(batch_tokens, int(plan.memory_left(self.model) / per_token))
        return plan.batches({i: 2 * width for i, width in widths.items()}, limit)

    def run(self, batch: list[int]) -> None:
        """Score these pairs and add what they give to the sums."""
        rows = [self.pairs[i].old for i in batch] + [self.pairs[i].new for i in batch]
        # Nothing is predicted from a row's last token, so it need not run; and as attention is
        # causal, the padding on the right needs no mask and gets gradients that are exactly zero.
        width = max(len(row.ids) for row in rows) - 1
        fed = [[*row.ids[:-1], *([row.ids[-1]] * (width + 1 - len(row.ids)))] for row in rows]
        device = self.model.device
        spans = torch.tensor([[i * width, len(row.ids) - 1] for i, row in enumerate(rows)])
        where = torch.tensor(batch, device=device)

        def on_tap(tap: Tap) -> None:
            self._add(tap, spans[: len(batch)], spans[len(batch) :], where)

        with torch.enable_grad(), self.model.taps(on_tap):
            losses = self._row_losses(rows, torch.tensor(fed, device=device))
            (losses.sum() * self.scale).backward()
        self.losses[:, where] = losses.detach().double().view(2, -1)

    def _labels(self, row: Row) -> range:
        return range(1 if self.full else row.start, len(row.ids))

    def _row_losses(self, rows: list[Row], fed: Int[Tensor, "row token"]) -> Tensor:
        places = [(r, t) for r, row in enumerate(rows) for t in self._labels(row)]
        row_of, token_of = torch.tensor(places, device=fed.device).T
        labels = torch.tensor([rows[r].ids[t] for r, t in places], device=fed.device)
        logits, _ = self.model.logits_at(fed, row_of, token_of - 1, use_cache=False)
        logits = logits.to(fed.device)
        # Low-precision logits are scored in float32, float64 ones as they are.
        wide = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        entropy = torch.nn.functional.cross_entropy(wide, labels, reduction="none")
        counts = [len(self._labels(row)) if self.mean else 1 for row in rows]
        weights = 1 / torch.tensor(counts, dtype=wide.dtype, device=fed.device)
        return entropy.new_zeros(len(rows)).index_add(0, row_of, entropy * weights[row_of])

    def _add(
        self,
        tap: Tap,
        old: Int[Tensor, "pair 2"],
        new: Int[Tensor, "pair 2"],
        where: Int[Tensor, " pair"],
    ) -> None:
        factors = {"weight": tap.a}
        if f"{tap.matrix}.bias" in self.names:
            factors["bias"] = tap.a.new_ones(len(tap.a), 1)  # a bias is a weight on the input 1
        for part, a in factors.items():
            found = ops.grad_dot(a, tap.d, old, a, tap.d, new)
            name = self.names.index(f"{tap.matrix}.{part}")
            self.sums[:, name, where, tap.layer] = found.T.to(self.sums) / self.scale**2
