"""Notes on choices that rounding may have made, so that another dtype may make another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from lga_fast.layer_scores import LayerScores
from lga_fast.records import LayerRanking

EPSILON = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
# By how much a pass's sums are rounded, in units of EPSILON times what is added up. Of 153 small
# models and dtypes beside float64, with given old answers, half were off by less than 1.4 and 19 of
# 20 by less than 12; the most were 43 and 28 (Gemma 4) and 19 (DeepSeek V3).
ROUNDINGS = 16
_SURE = 0.6  # an answer of this probability stays the most probable one, however it is rounded
_COARSE = 0.25  # nats: logits rounded by more say little of probabilities


def near_tie(ranking: LayerRanking) -> list[str]:
    """A note on the two best layers, if their scores are as close as the dtype rounds."""
    dtype = ranking.provenance.get("dtype")
    scores = np.array(ranking.scores, dtype=float)
    if dtype not in EPSILON or len(ranking.order) < 2:
        return []
    first, second = ranking.order[:2]
    gap = abs(scores[first] - scores[second])
    rounding = ROUNDINGS * EPSILON[dtype] * np.nanmax(np.abs(scores[list(ranking.order)]))
    if gap == 0 or not gap < rounding:  # equal ones are said by another note
        return []
    return [
        f"Layers {first} and {second} are as close as {dtype} rounds: another dtype or device may "
        f"choose layer {second}."
    ]


def of_pass(
    scores: LayerScores,
    phi: Float[np.ndarray, "request layer"],
    layers: Int[np.ndarray, " layer"],
    ranked: Int[np.ndarray, " ranked"],
    fences: tuple[Float[np.ndarray, ""], Float[np.ndarray, ""]] | None,
) -> list[str]:
    """Notes on a choice by sums over facts.

    Args:
        scores: of the pass, of the facts that are summed up.
        phi: what is summed up.
        layers: which layer each column is of.
        ranked: those inside the fences, best first.
        fences: if there are any.
    """
    dtype = scores.provenance.get("dtype")
    if dtype not in EPSILON:
        return []
    epsilon, total, notes = EPSILON[dtype], phi.sum(0), []
    sides = [side for side in (scores.loss_old, scores.loss_new) if np.isfinite(side).any()]
    worst = max((float(np.nanmax(side)) for side in sides), default=0.0)
    if epsilon * worst > _COARSE:
        notes.append(
            f"Losses of up to {worst:.0f} nats come from logits that {dtype} rounds by "
            f"{epsilon * worst:.1g}: another dtype may choose another layer. float32 is surer."
        )
    size = np.abs(phi)
    if np.isfinite(scores.loss_old).any():
        norms = [np.sum([*n.values()], axis=0) for n in (scores.norm2_old, scores.norm2_new)]
        size = np.fmax(size, np.sqrt(norms[0] * norms[1])[:, layers])
    rounding = ROUNDINGS * epsilon * np.sqrt((size**2).sum(0))
    # The old answer of a fact may be another one in another dtype, and then all that it adds.
    if dtype in ("bfloat16", "float16") and np.isfinite(scores.loss_old).any():
        unsure = np.exp(-scores.loss_old) < _SURE
        rounding = rounding + np.abs(phi[unsure]).max(0, initial=0.0)
    best = int(np.flatnonzero(layers == ranked[0])[0])
    inside = np.isin(layers, ranked)
    rivals = [i for i in np.flatnonzero(inside) if i != best]
    close = [
        int(layers[i]) for i in rivals if total[best] - total[i] < rounding[best] + rounding[i]
    ]
    if fences is not None:
        edge = np.minimum(abs(total - fences[0]), abs(total - fences[1]))
        # a fence that is a layer's own sum moves with it
        loose = (edge > 1e-9 * abs(total).max()) & (edge < rounding + rounding.max())
        if loose[best]:
            close += [int(layers[i]) for i in rivals[:1]]
        close += [int(layers[i]) for i in np.flatnonzero(loose & ~inside & (total > total[best]))]
    if close:
        names = ", ".join(map(str, sorted(set(close))))
        notes.append(
            f"{dtype} cannot tell layer {ranked[0]} from {names} with these facts: sums, fences, "
            "or an old answer that is not sure, are rounded by more than they differ. Another "
            "dtype may choose one of those; more facts or float32 make the choice firmer."
        )
    return notes
