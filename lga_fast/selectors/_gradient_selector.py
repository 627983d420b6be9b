"""Selectors that rank from one scoring pass, and how several share it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditRequest, LayerRanking, LayerScores
from lga_fast.scoring import score_layers
from lga_fast.scoring.options import LossScope, Reduction, ScoringOptions
from lga_fast.selectors._selector import Choice, LayerSelector, MeasuredFacts


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
        return Choice.of(self.aggregate(facts.scores))


def rank_together(
    model: EditableModel,
    requests: Sequence[EditRequest | dict[str, Any]],
    selectors: Mapping[str, GradientSelector],
) -> dict[str, LayerRanking]:
    """Rankings of selectors with equal options of the pass, from a single pass."""
    options = shared_pass(selectors.values())
    assert options is not None
    resume = next(iter(selectors.values())).resume
    scores = score_layers(model, requests, **vars(options), resume=resume)
    if len(selectors) > 1:
        together = {"pass_shared_by": list(selectors)}
        scores = replace(scores, provenance=scores.provenance | together)
    return {name: selector.aggregate(scores) for name, selector in selectors.items()}


def shared_pass(selectors: Iterable[LayerSelector]) -> ScoringOptions | None:
    """Options of one pass that serves all these, whose losses are equal; None: none needs one."""
    passes = [options for one in selectors if (options := one.pass_options()) is not None]
    if not passes:
        return None
    return replace(
        passes[0],
        old=next((options.old for options in passes if options.old), None),
        abs_new=any(options.abs_new for options in passes),
    )
