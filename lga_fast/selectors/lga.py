"""Layer Gradient Analysis (arXiv 2602.20207 §5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lga_fast.errors import ScoringError
from lga_fast.records import LayerRanking, LayerScores
from lga_fast.scoring.options import OldAnswer
from lga_fast.selectors._fenced import Fenced


@dataclass(frozen=True)
class Selector(Fenced):
    """The largest S_l = Σ_i <∇ℓ(Q_i∪K_i), ∇ℓ(Q_i∪K'_i)> of the layers within Tukey's fences."""

    old: OldAnswer = field(default="model", metadata={"help": "Where old answers come from."})
    skip_known: bool = field(
        default=False, metadata={"help": "Leave out facts the model has already."}
    )

    def needs(self) -> dict[str, Any]:
        """Old answers."""
        return {"old": self.old}

    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The choice from scores that are there already.

        Args:
            scores: of one pass; every scope is a re-aggregation of them.

        Raises:
            ScoringError: nothing is left to rank, or a score is not finite.
        """
        use = ~scores.known if self.skip_known else np.ones_like(scores.known)
        if not use.any():
            raise ScoringError(
                f"all {len(use)} requests are known to the model already; skip_known leaves none"
            )
        notes = []
        if (scores.per_request(self.scope)[use].sum(0) < 0).all():
            sure = float(np.exp(-scores.loss_old).mean())
            notes.append(
                "The score is negative at every layer: the gradients for the old and the new "
                "answer oppose each other, as they do where a model is sure of the old one (in "
                "logit space their inner product is Σp² - p(old) - p(new); here p(old) is "
                f"{sure:.2f} on average). The choice is the layer of smallest opposition, not of "
                "largest alignment."
            )
        label = "Σ ⟨∇ℓ(old), ∇ℓ(new)⟩  [nats² / weight²]"
        return self._fence(scores, scores.dot, np.asarray, use, "lga", label, notes)
