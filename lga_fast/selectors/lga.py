"""Layer Gradient Analysis (arXiv 2602.20207 §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel
from lga_fast.records import SCOPES, EditRequest, LayerRanking, LayerScores, Scope
from lga_fast.scoring import score_layers
from lga_fast.scoring.engine import LossScope, Reduction
from lga_fast.scoring.pairs import OldAnswer
from lga_fast.selectors import _tukey


@dataclass(frozen=True)
class Selector:
    """The largest S_l = Σ_i <∇ℓ(Q_i∪K_i), ∇ℓ(Q_i∪K'_i)> of the layers within Tukey's fences."""

    tukey: float | None = field(
        default=None,
        metadata={"help": "Fence constant; default 1.0, or 0.5 for composite, unstructured data."},
    )
    scope: Scope = field(default="mlp_all", metadata={"help": "Parameters that are added up."})
    old: OldAnswer = field(default="model", metadata={"help": "Where old answers come from."})
    loss_scope: LossScope = field(default="target", metadata={"help": "Tokens the loss counts."})
    reduction: Reduction = field(default="mean", metadata={"help": "Loss over a row's tokens."})
    skip_known: bool = field(
        default=False, metadata={"help": "Leave out facts the model has already."}
    )
    non_finite: Literal["raise", "exclude"] = field(
        default="raise", metadata={"help": "What to do with a layer whose score is not finite."}
    )
    bootstrap: int = field(
        default=200, metadata={"help": "Resamples of the facts that measure stability."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the resampling."})
    batch_tokens: int = field(default=4096, metadata={"help": "Tokens in one pass at most."})

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Score the requests in one pass and aggregate."""
        scores = score_layers(
            model,
            requests,
            old=self.old,
            loss_scope=self.loss_scope,
            reduction=self.reduction,
            batch_tokens=self.batch_tokens,
        )
        return self.aggregate(scores)

    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The choice from scores that are there already.

        Args:
            scores: of one pass; every scope is a re-aggregation of them.

        Raises:
            ScoringError: nothing is left to rank, or a score is not finite.
        """
        default = 0.5 if {"factual"}.isdisjoint(scores.kinds) else 1.0
        constant = default if self.tukey is None else self.tukey
        if constant < 0:
            raise ScoringError(f"tukey={constant}: expected a constant of at least 0")
        use = ~scores.known if self.skip_known else np.ones_like(scores.known)
        if not use.any():
            raise ScoringError(
                f"all {len(use)} requests are known to the model already; skip_known leaves none"
            )
        phi = scores.per_request(self.scope)[use]
        total, finite = phi.sum(0), np.all(np.isfinite(phi), axis=0)
        if not finite.all() and (self.non_finite == "raise" or not finite.any()):
            raise ScoringError(_not_finite(scores, self.scope, finite))
        phi, layers = phi[:, finite], np.flatnonzero(finite)  # ranked ones; `layers` names them
        inside = _tukey.kept(total[finite], constant)
        fences = None if len(layers) < 4 else _tukey.fences(total[finite], constant)
        ranked = layers[inside]
        order = ranked[np.argsort(-total[ranked], kind="stable")]
        shares = np.zeros(len(total))
        if self.bootstrap:
            shares[layers] = _tukey.stability(phi, constant, self.bootstrap, self.seed)
        positive = np.zeros(len(total))
        positive[layers] = (phi > 0).mean(0)
        ranking = LayerRanking(
            layer=int(order[0]),
            selector="lga",
            scores=tuple(total.tolist()),
            order=tuple(order.tolist()),
            score_label="Σ ⟨∇ℓ(old), ∇ℓ(new)⟩  [nats² / weight²]",
            excluded=tuple(sorted(set(range(len(total))) - set(order.tolist()))),
            fences=None if fences is None else (float(fences[0]), float(fences[1])),
            raw_argmax=int(layers[total[finite].argmax()]),
            argmax_by_scope={
                scope: int(layers[_tukey.choose(scores.total(scope)[finite], constant)])
                for scope in SCOPES
            },
            stability=tuple(shares.tolist()),
            positive_share=tuple(positive.tolist()),
            requests=int(use.sum()),
            known=int(scores.known.sum()),
            dropped=scores.dropped,
            provenance=scores.provenance | {"options": asdict(self) | {"tukey": constant}},
        )
        return _with_notes(ranking, scores, total[finite], finite)


def _not_finite(scores: LayerScores, scope: Scope, finite: np.ndarray) -> str:
    layer = int(np.flatnonzero(~finite)[0])
    for name in scores.parameters(scope):
        bad = np.flatnonzero(~np.isfinite(scores.dot[name][:, layer]))
        if len(bad):
            return (
                f"layer {layer}, {name}: the score of request {scores.case_ids[bad[0]]!r} is "
                f"{scores.dot[name][bad[0], layer]} ({(~finite).sum()} layers are affected). Load "
                "the model as float32 or bfloat16, or pass non_finite='exclude'."
            )
    return f"layer {layer}: the sum over parameters overflows"


def _with_notes(
    ranking: LayerRanking, scores: LayerScores, total: np.ndarray, finite: np.ndarray
) -> LayerRanking:
    notes = []
    last = len(ranking.scores) - 1
    if ranking.layer == last:
        notes.append(
            f"Layer {last} is the last one: an edit there cannot reach later tokens, because "
            "nothing after it reads the subject's position. Prefer the next layer in the ranking"
            + (f" ({ranking.order[1]})." if len(ranking.order) > 1 else ".")
        )
    if (total < 0).all():
        sure = float(np.exp(-scores.loss_old).mean())
        notes.append(
            "The score is negative at every layer: the gradients for the old and the new answer "
            "oppose each other, as they do where a model is sure of the old one (in logit space "
            f"their inner product is Σp² - p(old) - p(new); here p(old) is {sure:.2f} on average). "
            "The choice is the layer of smallest opposition, not of largest alignment."
        )
    share = ranking.stability[ranking.layer] if ranking.stability else 1.0
    if share < 0.5:
        notes.append(
            f"Only {share:.0%} of the bootstrap resamples choose layer {ranking.layer}: more proxy "
            "facts would make the choice firmer."
        )
    if ranking.fences is None or ranking.fences[0] == ranking.fences[1]:
        notes.append("Tukey's fences were skipped: too few layers, or no spread between them.")
    if not finite.all():
        bad = ", ".join(map(str, np.flatnonzero(~finite)))
        notes.append(f"Layers with scores that are not finite were left out: {bad}.")
    return replace(ranking, notes=tuple(notes))
