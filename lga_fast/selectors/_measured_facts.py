"""Facts whose measurements several selectors share, and what one of them chooses there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from lga_fast.layer_scores import LayerScores
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.sweep.result import Sweep


@dataclass(frozen=True)
class Choice:
    """The layer that a selector chooses on some facts, or several layers whose mean counts."""

    name: str
    layers: tuple[int, ...]
    shares: Float[np.ndarray, " layer"] | None = None  # of resamples that choose each layer
    notes: tuple[str, ...] = ()
    summary_name: str | None = None  # where variants are left out; None: this is such a variant

    @classmethod
    def of(cls, ranking: LayerRanking) -> Choice:
        """The choice of a ranking."""
        shares = np.array(ranking.stability) if ranking.stability else None
        name = ranking.selector
        return cls(name, (ranking.layer,), shares, ranking.notes, name)


@runtime_checkable
class MeasuredFacts(Protocol):
    """Facts to choose a layer on, with measurements that all selectors share."""

    @property
    def model(self) -> EditableModel:
        """To be edited."""
        ...

    @property
    def requests(self) -> Sequence[EditRequest]:
        """The facts."""
        ...

    @property
    def resamples(self) -> int:
        """Number of resamples of the facts that tell how firm a choice is."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the resamples."""
        ...

    @property
    def scores(self) -> LayerScores:
        """Of one pass with all that any selector asks for."""
        ...

    @property
    def sweep(self) -> Sweep:
        """Every fact edited at every layer."""
        ...
