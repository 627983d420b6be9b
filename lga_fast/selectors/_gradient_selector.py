"""Selectors that rank from one scoring pass, and how several share it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking, LayerScores
from lga_fast.scoring import score_layers
from lga_fast.scoring.options import LossScope, Reduction


@dataclass(frozen=True)
class Scored(ABC):
    """A selector that aggregates `LayerScores`; these options are those of the pass."""

    loss_scope: LossScope = field(default="target", metadata={"help": "Tokens the loss counts."})
    reduction: Reduction = field(default="mean", metadata={"help": "Loss over a row's tokens."})
    batch_tokens: int = field(default=4096, metadata={"help": "Tokens in one pass at most."})
    resume: str | None = field(
        default=None, metadata={"help": "Folder where a pass with streamed weights goes on."}
    )

    def needs(self) -> dict[str, Any]:
        """What it wants of `score_layers` beside these options."""
        return {}

    @abstractmethod
    def aggregate(self, scores: LayerScores) -> LayerRanking:
        """The choice from scores that are there already."""

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Score the requests in one pass and aggregate."""
        return self.aggregate(_scores(model, requests, [self]))


def rank_together(
    model: EditableModel,
    requests: Sequence[EditRequest | dict[str, Any]],
    selectors: Mapping[str, Scored],
) -> dict[str, LayerRanking]:
    """Rankings of selectors with equal options of the pass, from a single pass."""
    scores = _scores(model, requests, list(selectors.values()))
    if len(selectors) > 1:
        together = {"pass_shared_by": list(selectors)}
        scores = replace(scores, provenance=scores.provenance | together)
    return {name: selector.aggregate(scores) for name, selector in selectors.items()}


def pass_options(selectors: Sequence[Scored]) -> dict[str, Any]:
    """Options for `score_layers` of a pass that serves all these selectors."""
    names = ("loss_scope", "reduction", "batch_tokens", "resume")
    options: dict[str, Any] = {name: getattr(selectors[0], name) for name in names}
    needs: dict[str, Any] = {"old": None}
    for selector in selectors:
        needs |= selector.needs()
    return options | needs


def _scores(
    model: EditableModel,
    requests: Sequence[EditRequest | dict[str, Any]],
    selectors: Sequence[Scored],
) -> LayerScores:
    return score_layers(model, requests, **pass_options(selectors))
