"""A layer by chance: the baseline to beat (arXiv 2602.20207, appendix E)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lga_fast import provenance
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking


@dataclass(frozen=True)
class Selector:
    """Layers in random order, each place equally likely."""

    seed: int = field(default=42, metadata={"help": "Seed of the draw."})

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Draw; the requests are not looked at. Scores are the draw's, larger being earlier."""
        order = np.random.default_rng(self.seed).permutation(model.layers)
        scores = np.empty(model.layers)
        scores[order] = np.arange(model.layers, 0, -1) / model.layers
        return LayerRanking(
            layer=int(order[0]),
            selector="random_layer",
            scores=tuple(scores.tolist()),
            order=tuple(order.tolist()),
            score_label="place in the draw",
            requests=len(requests),
            provenance=provenance.of(model) | {"options": asdict(self)},
        )
