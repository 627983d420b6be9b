"""A layer named beforehand, such as the layer 5 that peers ship for nearly every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lga_fast import provenance
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking


@dataclass(frozen=True)
class Selector:
    """Always the same layer."""

    layer: int = field(default=5, metadata={"help": "The layer, counted from 0."})

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Choose `layer`; the requests are not looked at.

        Raises:
            ScoringError: the model has no such layer.
        """
        if not 0 <= self.layer < model.layers:
            raise ScoringError(
                f"layer {self.layer}: {model.name} has layers 0 to {model.layers - 1}"
            )
        return LayerRanking(
            layer=self.layer,
            selector="fixed",
            scores=tuple(float(i == self.layer) for i in range(model.layers)),
            order=(self.layer,),
            score_label="named beforehand",
            excluded=tuple(i for i in range(model.layers) if i != self.layer),
            requests=len(requests),
            provenance=provenance.of(model) | {"options": asdict(self)},
        )
