"""SaLEM: the layer of the largest mean absolute gradient (Mishra et al., Findings of EACL 2024)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from lga_fast.errors import ScoringError
from lga_fast.layer_scores import LayerScores
from lga_fast.options import option
from lga_fast.records import LayerRanking
from lga_fast.scoring.options import ScoringOptions
from lga_fast.selectors import _averaged
from lga_fast.selectors._gradient_selector import GradientSelector, zero_gradients
from lga_fast.selectors._selector import Resampling, refuse_equal


@dataclass(frozen=True)
class Selector(Resampling, GradientSelector):
    """The largest mean over facts of the mean |∇ℓ(Q_i∪K'_i)| over the MLP's weights."""

    norm: Literal["l1mean", "l2", "l2rms"] = option(
        "l1mean", "Mean of |gradient| over weights, its l2 norm, or its root mean square."
    )
    only_wrong: bool = option(False, "Use only facts whose new answer the model does not give yet.")

    def pass_options(self) -> ScoringOptions:
        """For l1mean sums of absolute values, which unlike l2 norms take extra work in the pass."""
        return replace(super().pass_options(), abs_new=self.norm == "l1mean")

    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The ranking that these scores give; biases do not count.

        A layer's matrices count by size. For matrices of equal size this is the mean of their
        means, and a fused matrix (Phi 3's) counts as the two that it is.

        Raises:
            ScoringError: no request is left, a score is not finite, or none is better than another.
        """
        use = ~scores.says_new if self.only_wrong else np.ones_like(scores.says_new)
        if not use.any():
            raise ScoringError(
                f"the model already gives the new answer to all {len(use)} requests; only_wrong "
                "leaves none"
            )
        weights = scores.parameters("mlp_weights")
        size = np.sum([scores.sizes[name] for name in weights], axis=0)
        if self.norm == "l1mean":
            value = np.sum([scores.abs_new[name] for name in weights], axis=0) / np.maximum(size, 1)
        else:
            value = np.sqrt(np.sum([scores.norm2_new[name] for name in weights], axis=0))
            value = value / np.sqrt(np.maximum(size, 1)) if self.norm == "l2rms" else value
        refuse_equal(self.name, value[use].mean(0).tolist(), zero_gradients(scores))
        return _averaged.ranking(
            self.name,
            {
                "l1mean": "mean |∇ℓ(new)|  [nats / weight]",
                "l2": "mean ‖∇ℓ(new)‖  [nats / weight]",
                "l2rms": "mean rms of ∇ℓ(new)  [nats / weight]",
            }[self.norm],
            value[use],
            [case for case, used in zip(scores.case_ids, use, strict=True) if used],
            bootstrap=self.bootstrap,
            seed=self.seed,
            known=int(scores.says_new.sum()),
            dropped=scores.dropped,
            provenance=scores.provenance | {"options": asdict(self)},
        )
