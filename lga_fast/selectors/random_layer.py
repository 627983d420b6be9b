"""A layer by chance: the baseline to beat (arXiv 2602.20207, appendix E)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from lga_fast import provenance
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors._measured_facts import Choice, MeasuredFacts
from lga_fast.selectors._selector import Basis, LayerSelector, Seeded, excluded

_DRAWN = 3  # layers whose mean counts, as in arXiv 2602.20207, appendix E


@dataclass(frozen=True)
class Selector(Seeded, LayerSelector):
    """Layers in random order, every order equally likely."""

    rests_on: ClassVar[Basis] = "chance"

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Draw an order, whatever the requests; a larger score means an earlier place in it."""
        order = np.random.default_rng(self.seed).permutation(model.layers)
        scores = np.empty(model.layers)
        scores[order] = np.arange(model.layers, 0, -1) / model.layers
        order = order[np.isin(order, model.mlp_layers)]
        return LayerRanking(
            layer=int(order[0]),
            selector=self.name,
            scores=tuple(scores.tolist()),
            order=tuple(order.tolist()),
            score_label="place in the draw",
            excluded=excluded(model.layers, order.tolist()),
            requests=len(requests),
            provenance=provenance.of(model) | {"options": asdict(self)},
        )

    def choose(self, facts: MeasuredFacts) -> Choice:
        """The first few layers of the draw, whose mean counts."""
        name = f"{self.name} (mean of {_DRAWN})"
        drawn = self.rank(facts.model, facts.requests).order[:_DRAWN]
        return Choice(name, drawn, summary_name=name)

    def variants(self, facts: MeasuredFacts) -> list[Choice]:
        """`choose`, and what to expect of a single draw: the mean of all layers."""
        name = f"{self.name} (mean of all)"
        order = self.rank(facts.model, facts.requests).order
        return [self.choose(facts), Choice(name, order, summary_name=name)]
