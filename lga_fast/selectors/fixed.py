"""A layer named beforehand, such as layer 5, which other code ships for nearly every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from lga_fast import provenance
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors._measured_facts import Choice, MeasuredFacts
from lga_fast.selectors._selector import Basis, LayerSelector


@dataclass(frozen=True)
class Selector(LayerSelector):
    """Always the same layer."""

    layer: int = option(5, "The layer, counted from 0.", min=0)

    rests_on: ClassVar[Basis] = "user"

    def check(self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]) -> None:
        """Refuse a layer that the model does not have; raises `ScoringError`."""
        if self.layer >= model.layers:
            raise ScoringError(
                f"fixed: layer {self.layer}: {model.name} has layers 0 to {model.layers - 1}"
            )

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Choose `layer`, whatever the requests.

        Raises:
            ScoringError: the model has no such layer.
        """
        self.check(model, requests)
        return LayerRanking(
            layer=self.layer,
            selector=self.name,
            scores=tuple(float(i == self.layer) for i in range(model.layers)),
            order=(self.layer,),
            score_label="named beforehand",
            excluded=tuple(i for i in range(model.layers) if i != self.layer),
            requests=len(requests),
            provenance=provenance.of(model) | {"options": asdict(self)},
        )

    def variants(self, facts: MeasuredFacts) -> list[Choice]:
        """`choose`, if the model has the layer."""
        return [self.choose(facts)] if self.layer < facts.model.layers else []
