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
from lga_fast.scoring.options import LossScope, Reduction
from lga_fast.selectors._selector import Choice, LayerSelector, MeasuredFacts


@dataclass(frozen=True)
class GradientSelector(LayerSelector):
    """A selector that aggregates `LayerScores`; these are the options of the scoring pass."""

    loss_scope: LossScope = option("target", "Tokens that the loss counts.")
    reduction: Reduction = option("mean", "Loss over the tokens of a row.")
    batch_tokens: int = option(4096, "Largest number of tokens in one batch.", min=1)
    resume: str | None = option(None, "Folder from which a pass with streamed weights resumes.")

    def needs(self) -> dict[str, Any]:
        """Arguments for `score_layers` beyond these options."""
        return {}

    def pass_options(self) -> dict[str, Any]:
        """Arguments for `score_layers`."""
        names = ("loss_scope", "reduction", "batch_tokens", "resume")
        return {name: getattr(self, name) for name in names} | self.needs()

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
    scores = score_layers(model, requests, **(shared_pass(selectors.values()) or {}))
    if len(selectors) > 1:
        together = {"pass_shared_by": list(selectors)}
        scores = replace(scores, provenance=scores.provenance | together)
    return {name: selector.aggregate(scores) for name, selector in selectors.items()}


def shared_pass(selectors: Iterable[LayerSelector]) -> dict[str, Any] | None:
    """Arguments for `score_layers` of one pass that serves all these; None: none makes a pass."""
    passes = [options for one in selectors if (options := one.pass_options()) is not None]
    if not passes:
        return None
    needs = {key: value for options in reversed(passes) for key, value in options.items()}
    return {"old": None} | needs
