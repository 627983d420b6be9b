"""Layer Gradient Analysis (arXiv 2602.20207 §5).

Also over other parameters and with other sums, to compare with the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from lga_fast.errors import ScoringError
from lga_fast.layer_scores import SCOPES, LayerScores, Scope
from lga_fast.options import option
from lga_fast.records import EditKind, LayerRanking
from lga_fast.scoring.options import OldAnswer, ScoringOptions
from lga_fast.selectors import _tukey
from lga_fast.selectors._gradient_selector import FencedSelector, zero_gradients
from lga_fast.selectors._measured_facts import Choice, MeasuredFacts
from lga_fast.selectors._selector import refuse_equal, to_check

Aggregation = Literal["signed", "absolute", "cosine"]
AGGREGATIONS: tuple[Aggregation, ...] = ("signed", "absolute", "cosine")
_PAPER = ("mlp_all", "signed")


@dataclass(frozen=True)
class Selector(FencedSelector):
    """The largest S_l = Σ_i <∇ℓ(Q_i∪K_i), ∇ℓ(Q_i∪K'_i)> among layers within Tukey's fences."""

    old: OldAnswer = option("model", "Source of the old answers.")
    skip_known: bool = option(False, "Leave out facts that the model already knows.")

    def pass_options(self) -> ScoringOptions:
        """Old answers too."""
        return replace(super().pass_options(), old=self.old)

    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The ranking that these scores give.

        Args:
            scores: of one pass; every scope is a re-aggregation of them.

        Raises:
            ScoringError: nothing is left to rank, or a score is not finite.
        """
        use = ~scores.known if self.skip_known else np.ones_like(scores.known)
        if not use.any():
            raise ScoringError(
                f"the model already knows all {len(use)} requests; skip_known leaves none"
            )
        notes = []
        if (scores.per_request(self.scope)[use].sum(0) < 0).all():
            p_old = float(np.exp(-scores.loss_old).mean())
            notes.append(
                "The score is negative at every layer: the gradients for the old and the new "
                "answer oppose each other, as they do where a model is sure of the old one (in "
                "logit space their inner product is Σp² - p(old) - p(new); here p(old) is "
                f"{p_old:.2f} on average). The choice is the layer of least opposition, not of "
                "most alignment."
            )
        label = "Σ ⟨∇ℓ(old), ∇ℓ(new)⟩  [nats² / weight²]"
        ranking = self._fence(scores, scores.dot, np.asarray, use, label, notes)
        doubts = self._doubts(ranking, scores.take(np.flatnonzero(use).tolist()))
        return replace(ranking, notes=(*ranking.notes, *doubts))

    def _doubts(self, ranking: LayerRanking, scores: LayerScores) -> list[str]:
        """Why the choice should be checked, and by what, if there is a reason."""
        chosen, layers, total = ranking.layer, len(ranking.scores), np.array(ranking.scores)
        reasons = []
        if 0.8 * layers <= chosen < layers - 1:  # of the last layer every selector warns
            reasons.append(f"layer {chosen} is in the last fifth, where edits often fail")
        if (total < 0).all():
            reasons.append("every score is negative")
        if self.bootstrap and ranking.stability[chosen] < 0.5:
            reasons.append("resamples of the facts disagree")
        if np.isfinite(total).all():
            others = {
                reading: int(
                    _tukey.choose(
                        per_request(scores, self.scope, reading).sum(0),
                        self.fence_constant(scores.kinds),
                    )
                )
                for reading in AGGREGATIONS[1:]
            }
            reasons += [
                f"with {reading} values it would be layer {layer}"
                for reading, layer in others.items()
                if abs(layer - chosen) > layers / 5
            ]
        return [to_check(reasons, layers, ranking.requests)] if reasons else []

    def best_layer(self, totals: Float[np.ndarray, " layer"], kinds: Sequence[EditKind]) -> int:
        """The layer of the largest total within the fences, for facts of these kinds.

        Raises:
            ScoringError: all totals are equal.
        """
        refuse_equal(self.name, totals.tolist(), "these facts do not tell them apart: use others")
        return int(_tukey.choose(totals, self.fence_constant(kinds)))

    def variants(self, facts: MeasuredFacts) -> list[Choice]:
        """Every scope, with the inner products, their absolute values, or cosines summed."""
        return [
            self.variant(facts.scores, scope, aggregation)
            for aggregation in AGGREGATIONS
            for scope in SCOPES
        ]

    def variant(self, scores: LayerScores, scope: Scope, aggregation: Aggregation) -> Choice:
        """The choice over a scope's parameters with an aggregation; "signed" is the paper's.

        Raises:
            ScoringError: all layers have the same sum.
        """
        title = f"{self.name} ({scope}, {aggregation})"
        phi, constant = per_request(scores, scope, aggregation), self.fence_constant(scores.kinds)
        refuse_equal(title, phi.sum(0).tolist(), zero_gradients(scores))
        return Choice(
            title,
            (int(_tukey.choose(phi.sum(0), constant)),),
            _tukey.stability(phi, constant, self.bootstrap, self.seed),
            summary_name=self.name if (scope, aggregation) == _PAPER else None,
        )


def per_request(
    scores: LayerScores, scope: Scope, aggregation: Aggregation
) -> Float[np.ndarray, "request layer"]:
    """φ, |φ|, or the cosine of the two gradients."""
    phi = scores.per_request(scope)
    if aggregation == "absolute":
        return np.abs(phi)
    if aggregation == "cosine":
        names = scores.parameters(scope)
        old, new = (
            np.sum([side[name] for name in names], axis=0)
            for side in (scores.norm2_old, scores.norm2_new)
        )
        size = np.sqrt(old * new)  # without a gradient there is no direction either
        return np.divide(phi, size, out=np.zeros_like(phi), where=size != 0)
    return phi
