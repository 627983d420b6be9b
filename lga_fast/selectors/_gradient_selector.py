"""Selectors that rank from one scoring pass, with Tukey's fences, and how several share it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from lga_fast.datasets import easyedit_requests
from lga_fast.errors import ScoringError
from lga_fast.layer_scores import SCOPES, LayerScores, Scope
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditKind, EditRequest, LayerRanking
from lga_fast.scoring import score_layers
from lga_fast.scoring.options import LossScope, Reduction, ScoringOptions
from lga_fast.selectors import _precision, _tukey
from lga_fast.selectors._measured_facts import Choice, MeasuredFacts
from lga_fast.selectors._selector import (
    FenceOptions,
    LayerSelector,
    Resampling,
    excluded,
    refuse_equal,
    with_notes,
    without_mlp,
    without_part,
)


@dataclass(frozen=True)
class GradientSelector(LayerSelector):
    """A selector that aggregates `LayerScores`; these are the options of the scoring pass."""

    loss_scope: LossScope = option("target", "Tokens that the loss counts.")
    reduction: Reduction = option("mean", "Loss over the tokens of a row.")
    batch_tokens: int = option(4096, "Largest number of tokens in one batch.", min=1)
    resume: str | None = option(None, "Folder from which a pass with streamed weights resumes.")

    def pass_options(self) -> ScoringOptions:
        """What it needs of a scoring pass: new answers' norms, with the loss of these options."""
        return ScoringOptions(
            old=None,
            loss_scope=self.loss_scope,
            reduction=self.reduction,
            batch_tokens=self.batch_tokens,
        )

    def completed(
        self, model: EditableModel, requests: Sequence[EditRequest], scores: LayerScores
    ) -> LayerScores:
        """The scores with what this selector needs besides a pass over these requests."""
        return scores

    @abstractmethod
    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The ranking that these scores give."""

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Score the requests in one pass and aggregate."""
        return rank_together(model, requests, {self.name: self})[self.name]

    def choose(self, facts: MeasuredFacts) -> Choice:
        """What the scores that are already there choose."""
        scores = self.completed(facts.model, facts.requests, facts.scores)
        return Choice.of(self.aggregate(scores))


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
            ScoringError: a score is not finite, none is better than another, or the best one is
                that of a layer without gradients.
        """
        constant = self.fence_constant(scores.kinds)
        phi = _over(scores, self.scope, terms, value)[use]
        total, finite = phi.sum(0), np.all(np.isfinite(phi), axis=0)
        if not finite.all() and (self.non_finite == "raise" or not finite.any()):
            raise ScoringError(_not_finite(scores, self.scope, terms, finite))
        ranks = finite & ~np.isin(np.arange(len(total)), without_mlp(scores.provenance))
        phi, layers = phi[:, ranks], np.flatnonzero(ranks)  # columns of `phi` are `layers`
        inside = _tukey.within(total[ranks], constant)
        fences = None if len(layers) < 4 else _tukey.fences(total[ranks], constant)
        ranked = layers[inside]
        order = ranked[np.argsort(-total[ranked], kind="stable")]
        refuse_equal(self.name, total[ranks].tolist(), zero_gradients(scores))
        if not phi[:, layers == order[0]].any():  # where all others are negative, 0 is the largest
            raise ScoringError(
                f"{self.name}: expected gradients at the layer of the best score, got only zeros "
                f"at layer {order[0]}; {zero_gradients(scores)}"
            )
        shares, positive = np.zeros(len(total)), np.zeros(len(total))
        if self.bootstrap:
            shares[layers] = _tukey.stability(phi, constant, self.bootstrap, self.seed)
        positive[layers] = (phi > 0).mean(0)
        notes = [*notes, *without_part(phi)]
        used = scores.take(np.flatnonzero(use).tolist())
        notes += _precision.of_pass(used, phi, layers, order, fences)
        if fences is None or fences[0] == fences[1]:
            notes.append("Tukey's fences were skipped: too few layers, or no spread between them.")
        if not finite.all():
            bad = ", ".join(map(str, np.flatnonzero(~finite)))
            notes.append(f"Layers whose scores are not finite were left out: {bad}.")
        by_scope = {s: _over(scores, s, terms, value)[use][:, ranks].sum(0) for s in SCOPES}
        ranking = LayerRanking(
            layer=int(order[0]),
            selector=self.name,
            scores=tuple(total.tolist()),
            order=tuple(order.tolist()),
            score_label=label,
            excluded=excluded(len(total), order.tolist()),
            fences=None if fences is None else (float(fences[0]), float(fences[1])),
            raw_argmax=int(layers[total[ranks].argmax()]),
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


def rank_together(
    model: EditableModel,
    requests: Sequence[EditRequest | dict[str, Any]],
    selectors: Mapping[str, GradientSelector],
) -> dict[str, LayerRanking]:
    """Rankings of selectors with equal options of the pass, from a single pass."""
    requests = easyedit_requests(requests)
    options = shared_pass(selectors.values())
    assert options is not None
    resume = next(iter(selectors.values())).resume
    scores = score_layers(model, requests, **vars(options), resume=resume)
    if len(selectors) > 1:
        together = {"pass_shared_by": list(selectors)}
        scores = replace(scores, provenance=scores.provenance | together)
    return {
        name: selector.aggregate(selector.completed(model, requests, scores))
        for name, selector in selectors.items()
    }


def shared_pass(selectors: Iterable[LayerSelector]) -> ScoringOptions | None:
    """Options of one pass that serves all these, whose losses are equal; None: none needs one."""
    passes = [options for one in selectors if (options := one.pass_options()) is not None]
    if not passes:
        return None
    return replace(
        passes[0],
        old=next((options.old for options in passes if options.old), None),
        abs_new=any(options.abs_new for options in passes),
        at_subject=any(options.at_subject for options in passes),
    )


def zero_gradients(scores: LayerScores) -> str:
    """Why gradients, or what is computed of them, may be zero, and how to mend it."""
    dtype = scores.provenance.get("dtype", "its dtype")
    wider = "float32" if dtype in ("float16", "bfloat16") else "float64"
    sides = {"old": (scores.norm2_old, scores.loss_old), "new": (scores.norm2_new, scores.loss_new)}
    for side, (norms, losses) in sides.items():
        if not any(norm.any() for norm in norms.values()):
            return (
                f"the {side} answers' gradients are zero at every layer: either the model is "
                f"certain of these answers (p is {np.exp(-losses).mean():.2f} on average), so use "
                f"other facts and check the scale of its logits; or {dtype} underflows, so load it "
                f"as {wider}"
            )
    return f"{dtype} may underflow: load the model as {wider}, or use other facts"


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
