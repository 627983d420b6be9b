"""R-ROME: ROME with the mean key and output over contexts in the update (Gupta et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lga_fast.editors import rome
from lga_fast.editors._rank_one import RankOneSolver
from lga_fast.models import EditableModel


@dataclass(frozen=True)
class Editor(rome.Editor):
    """(W + ΔW) k̄ + b = v* for the mean key k̄ over all contexts."""

    def prepare(self, model: EditableModel, layer: int) -> RankOneSolver:
        """As for `rome`."""
        return RankOneSolver(model, layer, self, mean, self.mom2_adjustment)


def mean(rows: Float[Tensor, "row d"]) -> Float[Tensor, " d"]:
    """Over the contexts ("Rebuilding ROME", arXiv 2403.07175)."""
    return rows.mean(0)
