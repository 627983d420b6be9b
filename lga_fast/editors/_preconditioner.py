"""The linear algebra of mass editors: the direction M k of a key, and a layer's ridge solve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from lga_fast.editors._moments import Moments
from lga_fast.errors import EditError
from lga_fast.weight_edit import LowRank


class Preconditioner(ABC):
    """`k ↦ M k` with a symmetric M: the direction along which a layer's update reads each key."""

    report: dict[str, Any]  # about M, for the edit's provenance; plain JSON
    notes: tuple[str, ...] = ()  # about M, for the user

    @abstractmethod
    def __call__(self, keys: Float64[Tensor, "request d_in"]) -> Float64[Tensor, "request d_in"]:
        """`M k` of every key."""

    def remember(self, keys: Float64[Tensor, "request d_in"]) -> None:  # noqa: B027
        """Take note of the keys of an edit that later ones follow."""


class InverseMoment(Preconditioner):
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


class Update(NamedTuple):
    """One layer's change `left · rightᵀ`, in float64 on the CPU."""

    keys: Float64[Tensor, "request d_in"]
    left: Float64[Tensor, "d_out request"]
    right: Float64[Tensor, "d_in request"]
    written: list[float]  # share of its change that each key would get alone
    dependent: bool  # the keys are linearly dependent

    @property
    def delta(self) -> LowRank:
        """The change in float32."""
        return LowRank(self.left.type(torch.float32), self.right.type(torch.float32))


def solve_update(
    layer: int,
    keys: Float64[Tensor, "request d_in"],
    residual: Float64[Tensor, "request d_out"],
    preconditioner: Preconditioner,
    ridge: float,
) -> Update:
    """The factors `left = Rᵀ (K M Kᵀ + ρI)⁻¹` and `right = M Kᵀ` of a layer's ΔW.

    Raises:
        EditError: a factor is not finite in float32.
    """
    right = preconditioner(keys)
    left, dependent = _solve_ridge(keys @ right.T, ridge, residual)
    reach = (keys * right).sum(1)
    if not all(torch.isfinite(x.type(torch.float32)).all() for x in (left, right)):
        raise EditError(
            f"layer {layer}: the update of {len(keys)} requests is not finite: a key or value "
            "overflowed; load the model as float32 or bfloat16"
        )
    return Update(keys, left.T, right.T, (reach / (reach + ridge)).tolist(), dependent)


def _solve_ridge(
    reach: Float64[Tensor, "request request"], ridge: float, residual: Float64[Tensor, "request d"]
) -> tuple[Float64[Tensor, "request d"], bool]:
    """`(reach + ridge · I)⁻¹ residual` for a positive semidefinite reach, and if it is singular.

    Then it is solved by the pseudoinverse: requests whose keys are dependent share their residuals
    in the least-squares sense.
    """
    system = (reach + reach.T) / 2
    system.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex(system)
    # A key that depends on those before it leaves nothing but rounding on the diagonal.
    least = torch.finfo(torch.float64).eps * len(system) * system.diagonal()
    if not failed and (lower.diagonal().square() > least).all():
        return torch.cholesky_solve(residual, lower), False
    if not torch.isfinite(system).all():
        return torch.full_like(residual, torch.nan), False
    return torch.linalg.pinv(system, hermitian=True) @ residual, True
