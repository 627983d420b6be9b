"""Rankings by a mean over facts, without fences; SaLEM and causal tracing share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast.errors import ScoringError
from lga_fast.records import Dropped, LayerRanking
from lga_fast.selectors import _tukey
from lga_fast.selectors._selector import excluded, with_notes, without_mlp, without_part


def ranking(
    selector: str,
    label: str,
    per_request: Float[np.ndarray, "request layer"],
    case_ids: Sequence[str],
    *,
    bootstrap: int,
    seed: int,
    provenance: dict[str, Any],
    known: int = 0,
    dropped: tuple[Dropped, ...] = (),
    notes: Sequence[str] = (),
    tie_break: str = "the lowest is taken",
) -> LayerRanking:
    """Rank layers by their mean, largest first; equal ones by number.

    Raises:
        ScoringError: a score is not finite.
    """
    check_finite(selector, per_request, case_ids)
    mean = per_request.mean(0)
    order = np.argsort(-mean, kind="stable")
    order = order[~np.isin(order, without_mlp(provenance))]
    shares: Sequence[float] = ()
    if bootstrap:
        there = np.sort(order)
        stable = np.zeros(len(mean))
        stable[there] = _tukey.stability(per_request[:, there], None, bootstrap, seed)
        shares = stable.tolist()
    ranked = LayerRanking(
        layer=int(order[0]),
        selector=selector,
        scores=tuple(mean.tolist()),
        order=tuple(order.tolist()),
        score_label=label,
        excluded=excluded(len(mean), order.tolist()),
        stability=tuple(shares),
        positive_share=tuple((per_request > 0).mean(0).tolist()),
        requests=len(per_request),
        known=known,
        dropped=dropped,
        provenance=provenance,
    )
    return with_notes(ranked, [*notes, *without_part(per_request)], tie_break)


def check_finite(
    selector: str, per_request: Float[np.ndarray, "request layer"], case_ids: Sequence[str]
) -> None:
    """Refuse scores that are not finite; raises `ScoringError`."""
    bad = np.argwhere(~np.isfinite(per_request))
    if len(bad):
        request, layer = bad[0]
        raise ScoringError(
            f"{selector}, layer {layer}: the score of request {case_ids[request]!r} is "
            f"{per_request[request, layer]}. Load the model as float32 or bfloat16."
        )
