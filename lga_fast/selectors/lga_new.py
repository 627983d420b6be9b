"""LGA(K'): LGA without the old knowledge, the ablation of arXiv 2602.20207 appendix F."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lga_fast.layer_scores import LayerScores
from lga_fast.records import LayerRanking
from lga_fast.selectors._gradient_selector import FencedSelector


@dataclass(frozen=True)
class Selector(FencedSelector):
    """The largest S_l = Σ_i ‖∇ℓ(Q_i∪K'_i)‖₂ among layers within Tukey's fences."""

    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The ranking that these scores give; only the norms of new answers' gradients are read.

        Raises:
            ScoringError: a score is not finite, or none is better than another.
        """
        label, use = "Σ ‖∇ℓ(new)‖  [nats / weight]", np.ones_like(scores.known)
        return self._fence(scores, scores.norm2_new, np.sqrt, use, label)
