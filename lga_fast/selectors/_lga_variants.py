"""LGA over other parameters and with other sums, to compare with the paper's."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from lga_fast.layer_scores import LayerScores, Scope
from lga_fast.selectors import _tukey
from lga_fast.selectors._gradient_selector import zero_gradients
from lga_fast.selectors._measured_facts import Choice
from lga_fast.selectors._selector import refuse_equal

Aggregation = Literal["signed", "absolute", "cosine"]
AGGREGATIONS: tuple[Aggregation, ...] = ("signed", "absolute", "cosine")
_PAPER = ("mlp_all", "signed")


def variant(
    name: str,
    scores: LayerScores,
    scope: Scope,
    aggregation: Aggregation,
    constant: float,
    resamples: int,
    seed: int,
) -> Choice:
    """The choice of LGA over a scope's parameters with an aggregation; "signed" is the paper's.

    Args:
        name: of the selector.
        scores: of the facts.
        scope: which parameters are summed over.
        aggregation: what is summed over the facts.
        constant: of Tukey's fences.
        resamples: of the facts, to see how firm the choice is.
        seed: of the resamples.

    Raises:
        ScoringError: all layers have the same sum.
    """
    phi, title = per_request(scores, scope, aggregation), f"{name} ({scope}, {aggregation})"
    refuse_equal(title, phi.sum(0).tolist(), zero_gradients(scores))
    return Choice(
        title,
        (int(_tukey.choose(phi.sum(0), constant)),),
        _tukey.stability(phi, constant, resamples, seed),
        summary_name=name if (scope, aggregation) == _PAPER else None,
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
