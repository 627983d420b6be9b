"""R-ROME: ROME with the mean key and output over contexts in the update (Gupta et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lga_fast.editors import rome
from lga_fast.editors._rank_one import RankOneSolver
from lga_fast.editors._value_problem import Value
from lga_fast.models import EditableModel


@dataclass(frozen=True)
class Editor(rome.Editor):
    """(W + ΔW) k̄ + b = v* for the mean key k̄ over all contexts."""

    def prepare(self, model: EditableModel, layer: int) -> RankOneSolver:
        """As for `rome`."""
        return RankOneSolver(model, layer, self, update, self.mom2_adjustment)


def update(
    value: Value,
    keys: Float[Tensor, "row d_in"],
    outputs: Float[Tensor, "row d_out"],
    u: Float[Tensor, " d_in"],
) -> tuple[Float[Tensor, " d_out"], Float[Tensor, " d_in"]]:
    """Factors r = (v* - ō) / (k̄·u) and u of ΔW ("Rebuilding ROME", arXiv 2403.07175)."""
    return (value.initial + value.delta - outputs.mean(0)) / (keys.mean(0) @ u), u
