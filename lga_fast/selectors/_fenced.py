"""What LGA and LGA(K') share: sums over facts, Tukey's fences, scopes, stability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from lga_fast.errors import ScoringError
from lga_fast.options import option
from lga_fast.records import SCOPES, EditKind, LayerRanking, LayerScores, Scope
from lga_fast.selectors import _tukey
from lga_fast.selectors._gradient_selector import GradientSelector
from lga_fast.selectors._selector import FenceOptions, Resampling, with_notes


@dataclass(frozen=True)
class FencedSelector(FenceOptions, Resampling, GradientSelector):
    """A gradient selector that takes the largest sum within Tukey's fences."""

    non_finite: Literal["raise", "exclude"] = option(
        "raise", "What to do with a layer whose score is not finite."
    )

    def fence_constant(self, kinds: Sequence[EditKind]) -> float:
        """κ for facts of these kinds: `tukey`, or the default of the kind."""
        return _tukey.default_constant(kinds) if self.tukey is None else self.tukey

    def _fence(
        self,
        scores: LayerScores,
        terms: Mapping[str, Float[np.ndarray, "request layer"]],
        value: Callable[[np.ndarray], np.ndarray],
        use: Bool[np.ndarray, " request"],
        label: str,
        notes: Sequence[str] = (),
    ) -> LayerRanking:
        """Rank by S_l = Σ_i value(Σ_p terms[p]), over the requests i in `use` and a scope's p.

        Raises:
            ScoringError: a score is not finite.
        """
        constant = self.fence_constant(scores.kinds)
        phi = _over(scores, self.scope, terms, value)[use]
        total, finite = phi.sum(0), np.all(np.isfinite(phi), axis=0)
        if not finite.all() and (self.non_finite == "raise" or not finite.any()):
            raise ScoringError(_not_finite(scores, self.scope, terms, finite))
        phi, layers = phi[:, finite], np.flatnonzero(finite)  # columns of `phi` are `layers`
        inside = _tukey.within(total[finite], constant)
        fences = None if len(layers) < 4 else _tukey.fences(total[finite], constant)
        ranked = layers[inside]
        order = ranked[np.argsort(-total[ranked], kind="stable")]
        shares, positive = np.zeros(len(total)), np.zeros(len(total))
        if self.bootstrap:
            shares[layers] = _tukey.stability(phi, constant, self.bootstrap, self.seed)
        positive[layers] = (phi > 0).mean(0)
        notes = list(notes)
        if fences is None or fences[0] == fences[1]:
            notes.append("Tukey's fences were skipped: too few layers, or no spread between them.")
        if not finite.all():
            bad = ", ".join(map(str, np.flatnonzero(~finite)))
            notes.append(f"Layers whose scores are not finite were left out: {bad}.")
        by_scope = {s: _over(scores, s, terms, value)[use][:, finite].sum(0) for s in SCOPES}
        ranking = LayerRanking(
            layer=int(order[0]),
            selector=self.name,
            scores=tuple(total.tolist()),
            order=tuple(order.tolist()),
            score_label=label,
            excluded=tuple(sorted(set(range(len(total))) - set(order.tolist()))),
            fences=None if fences is None else (float(fences[0]), float(fences[1])),
            raw_argmax=int(layers[total[finite].argmax()]),
            argmax_by_scope={
                scope: int(layers[_tukey.choose(summed, constant)])
                for scope, summed in by_scope.items()
            },
            stability=tuple(shares.tolist()),
            positive_share=tuple(positive.tolist()),
            requests=int(use.sum()),
            known=int(scores.known.sum()),
            dropped=scores.dropped,
            provenance=scores.provenance | {"options": asdict(self) | {"tukey": constant}},
        )
        return with_notes(ranking, notes)


def _over(
    scores: LayerScores,
    scope: Scope,
    terms: Mapping[str, np.ndarray],
    value: Callable[[np.ndarray], np.ndarray],
) -> Float[np.ndarray, "request layer"]:
    return value(np.sum([terms[name] for name in scores.parameters(scope)], axis=0))


def _not_finite(
    scores: LayerScores, scope: Scope, terms: Mapping[str, np.ndarray], finite: np.ndarray
) -> str:
    layer = int(np.flatnonzero(~finite)[0])
    for name in scores.parameters(scope):
        bad = np.flatnonzero(~np.isfinite(terms[name][:, layer]))
        if len(bad):
            return (
                f"layer {layer}, {name}: the score of request {scores.case_ids[bad[0]]!r} is "
                f"{terms[name][bad[0], layer]} ({(~finite).sum()} layers are affected). Load "
                "the model as float32 or bfloat16, or pass non_finite='exclude'."
            )
    return f"layer {layer}: the sum over parameters overflows"
