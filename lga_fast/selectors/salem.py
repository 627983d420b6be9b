"""SaLEM: the layer of the largest mean absolute gradient (Mishra et al., Findings of EACL 2024)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from lga_fast.errors import ScoringError
from lga_fast.records import LayerRanking, LayerScores
from lga_fast.selectors import _averaged
from lga_fast.selectors._gradient_selector import Scored


@dataclass(frozen=True)
class Selector(Scored):
    """The largest mean over the facts of the mean |∇ℓ(Q_i∪K'_i)| over the MLP's weights."""

    norm: Literal["l1mean", "l2", "l2rms"] = field(
        default="l1mean",
        metadata={"help": "Mean of |gradient| over weights, its l2 norm, or its root mean square."},
    )
    only_wrong: bool = field(
        default=False,
        metadata={"help": "Use only facts whose new answer the model does not give yet."},
    )
    bootstrap: int = field(
        default=200, metadata={"help": "Resamples of the facts that measure stability."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of all that is random."})

    def needs(self) -> dict[str, Any]:
        """Absolute values, which unlike the l2 norms need more work in the pass."""
        return {"abs_new": True} if self.norm == "l1mean" else {}

    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The choice from scores that are there already; biases do not count.

        The matrices of a layer count by their sizes. Where these are equal that is the mean of
        the matrices' means, and a matrix that is two in one (Phi 3's) counts as two.

        Raises:
            ScoringError: no request is left, or a score is not finite.
        """
        use = ~scores.says_new if self.only_wrong else np.ones_like(scores.says_new)
        if not use.any():
            raise ScoringError(
                f"the model gives the new answer of all {len(use)} requests already; only_wrong "
                "leaves none"
            )
        weights = scores.parameters("mlp_weights")
        size = np.sum([scores.sizes[name] for name in weights], axis=0)
        if self.norm == "l1mean":
            value = np.sum([scores.abs_new[name] for name in weights], axis=0) / size
        else:
            value = np.sqrt(np.sum([scores.norm2_new[name] for name in weights], axis=0))
            value = value / np.sqrt(size) if self.norm == "l2rms" else value
        return _averaged.ranking(
            "salem",
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
