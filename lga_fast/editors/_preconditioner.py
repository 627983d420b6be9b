"""The linear algebra of mass editors: along which directions keys are read, and how far to go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from lga_fast.editors._moments import Moments


class Directions(ABC):
    """`k ↦ M k` with a symmetric M: along which direction a layer's update reads each key."""

    report: dict[str, Any]  # what the edit's provenance should say of M, as plain JSON
    notes: tuple[str, ...] = ()  # what the user should know of it

    @abstractmethod
    def __call__(self, keys: Float64[Tensor, "request d_in"]) -> Float64[Tensor, "request d_in"]:
        """The direction of every key."""

    def remember(self, keys: Float64[Tensor, "request d_in"]) -> None:  # noqa: B027
        """Hear of the keys of an edit that later ones follow."""


class Inverse(Directions):
    """`M = (weight · C + shift · I)⁻¹` for the second moment C of a layer's keys."""

    def __init__(self, moment: Moments, weight: float, shift: float = 0.0):
        self.weight, self.moment = weight, moment
        if shift:
            second = moment.second.clone()
            second.diagonal().add_(shift / weight)
            self.moment = replace(moment, second=second)
        self.report = self.moment.report()

    def __call__(self, keys: Float64[Tensor, "request d_in"]) -> Float64[Tensor, "request d_in"]:
        """By Cholesky; of `C + jitter · I` where C is singular."""
        return self.moment.solve(keys) / self.weight


def solved(
    reach: Float64[Tensor, "request request"], ridge: float, residual: Float64[Tensor, "request d"]
) -> tuple[Float64[Tensor, "request d"], bool]:
    """`(reach + ridge · I)⁻¹ residual` for a positive semidefinite reach, and whether it exists.

    Where it does not, by the pseudoinverse: the requests whose keys are dependent share what they
    ask for by least squares.
    """
    system = (reach + reach.T) / 2
    system.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex(system)
    # Of a key that depends on those before it, rounding alone is left on the diagonal.
    least = torch.finfo(torch.float64).eps * len(system) * system.diagonal()
    if not failed and (lower.diagonal().square() > least).all():
        return torch.cholesky_solve(residual, lower), False
    if not torch.isfinite(system).all():
        return torch.full_like(residual, torch.nan), False
    return torch.linalg.pinv(system, hermitian=True) @ residual, True
