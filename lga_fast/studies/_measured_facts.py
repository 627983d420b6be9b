"""A trial's proxy facts with measurements that all selectors share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lga_fast import registry
from lga_fast.layer_scores import LayerScores
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.selectors import LayerSelector
from lga_fast.studies._trials import Trial
from lga_fast.sweep.result import Sweep

SELECTORS = "lga_fast.selectors"


@dataclass(frozen=True)
class ProxyFacts:
    """A trial's proxy facts; see `lga_fast.selectors.MeasuredFacts`.

    Args:
        trial: whose model and proxy facts are used.
        sweep: of the proxy facts.
        scores: of the proxy facts, of a pass that serves every selector.
        resamples: of the proxy facts, to see how firm a choice is.
    """

    trial: Trial
    sweep: Sweep
    scores: LayerScores
    resamples: int

    @property
    def model(self) -> EditableModel:
        """The trial's."""
        return self.trial.model

    @property
    def requests(self) -> Sequence[EditRequest]:
        """The proxy facts."""
        return self.trial.split.proxy

    @property
    def seed(self) -> int:
        """The study's."""
        return self.trial.setting.seed


def selector_for(trial: Trial, name: str, resamples: int, **options: Any) -> LayerSelector:
    """A selector with those of a trial's settings that it has options for, and more options."""
    setting = trial.setting
    offered = {
        "editor": trial.editor,
        "preset": setting.preset,
        "config": setting.config,
        "seed": setting.seed,
        "bootstrap": resamples,
    }
    options |= registry.of_member(SELECTORS, name, "Selector", offered)
    return registry.configured(SELECTORS, name, "Selector", options)
