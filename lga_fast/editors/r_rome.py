"""R-ROME: ROME with the mean key and output over contexts in the update (Gupta et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lga_fast.editors import _rank_one, rome
from lga_fast.editors._values import Value
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class Editor(rome.Editor):
    """(W + ΔW) k̄ + b = v* for the mean key k̄ over all contexts."""

    def solve(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> WeightEdit:
        """One rank-1 change per request; see `lga_fast.edit`."""
        return _rank_one.solve(model, requests, layer, "r_rome", self, update)


def update(
    value: Value,
    keys: Float[Tensor, "row d_in"],
    outputs: Float[Tensor, "row d_out"],
    u: Float[Tensor, " d_in"],
) -> tuple[Float[Tensor, " d_out"], Float[Tensor, " d_in"]]:
    """Factors r = (v* - ō) / (k̄·u) and u of ΔW ("Rebuilding ROME", arXiv 2403.07175)."""
    return (value.initial + value.delta - outputs.mean(0)) / (keys.mean(0) @ u), u
