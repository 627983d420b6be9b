"""AlphaEdit: updates in the null space of known keys (Fang et al. 2024, arXiv 2410.02355)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lga_fast.editors._mass import MassEditor
from lga_fast.editors._moments import Moments
from lga_fast.editors._preconditioner import Preconditioner
from lga_fast.editors._stored_statistics import read_projection
from lga_fast.errors import EditError
from lga_fast.options import option

# What hparams/AlphaEdit of other code says, but for the layers: zjunlp/EasyEdit (gpt2-xl, gpt-j-6B;
# llama3-8b, llama3.1-8b; qwen2.5-7b) and, for "original", jianghoucheng/AlphaEdit (gpt2-xl,
# gpt-j-6B; Llama3-8B; no Qwen, for which EasyEdit's numbers stand). kl_factor is 0.0625 and
# nullspace_threshold 0.02 in all of them; no second moment is weighed.
_GPT = {"weight_decay": 0.5, "clamp": 0.75, "l2": 10.0}
_LLAMA = {"steps": 25, "lr": 0.1, "weight_decay": 0.5, "clamp": 0.75}
_FAMILIES = {
    "gpt2": {"steps": 20, **_GPT},
    "gptj": {"steps": 25, **_GPT},
    "qwen2": {"steps": 25, "weight_decay": 1e-3, "clamp": 4.0, "l2": 1.0},
}
_PUBLISHED = {
    "easyedit": {
        **_FAMILIES,
        "llama": {**_LLAMA, "l2": 1.0},
        "llama-3.1-8b": {"l2": 10.0},
        "llama-3.1-8b-instruct": {"l2": 10.0},
    },
    "original": {**_FAMILIES, "llama": {**_LLAMA, "l2": 10.0}},
}


@dataclass(frozen=True)
class Editor(MassEditor):
    """ΔW minimises ‖ΔW K − R‖² + L2 ‖ΔW‖² among all ΔW = ΔW P (arXiv 2410.02355).

    A solver also preserves the values of all keys that it has edited before: the paper's `M`,
    for sequential edits.
    """

    published_hparams = _PUBLISHED  # no field, so without a type
    damping = "l2"
    window = 5

    l2: float = option(1.0, "Weight L2 of ‖ΔW‖²; less writes more.", above=0)
    nullspace_threshold: float = option(
        0.02, "Second moment below which a direction is free to use.", above=0
    )
    projections: str | None = option(
        None, "File of AlphaEdit's projections (P_loc), one for each of `layers`.", path=True
    )

    def preconditioner(self, moment: Moments) -> Preconditioner:
        """`M = P`, less what earlier edits' keys occupy."""
        projection = None
        if self.projections is not None:
            layers = self.layers or (moment.layer,)
            projection = read_projection(self.projections, layers, moment)
        return NullSpace(moment, self.nullspace_threshold, self.l2, projection)

    def ridge(self, requests: int) -> float:
        """`ρ = L2`."""
        return self.l2


class NullSpace(Preconditioner):
    """The projection P on those directions of keys whose second moment is below a threshold.

    It is P itself [d_in d_in] if it is given, else the directions, as columns [d_in free].

    For keys of earlier edits, as rows of E, it is `P − P Eᵀ (E P Eᵀ + L2·I)⁻¹ E P`. With it ΔW is
    what the paper's formula gives for `M = EᵀE`.
    """

    def __init__(
        self, moment: Moments, threshold: float, ridge: float, projection: Tensor | None = None
    ):
        values, vectors = torch.linalg.eigh(moment.second)
        self.free, self.ridge = vectors[:, values < threshold], ridge
        free = self.free.shape[1]
        if projection is not None:
            self.free, free = projection, round(float(projection.trace()))
        self.earlier = self.free.new_empty(0, self.free.shape[1])  # [key free]
        size, smallest, largest = len(values), float(values[0]), float(values[-1])
        if not free:
            raise EditError(
                f"layer {moment.layer}: none of the {size} directions of its keys has a second "
                f"moment below nullspace_threshold {threshold:g}, so none is free to use: the "
                f"smallest is {smallest:.3g}, the largest {largest:.3g}. Raise nullspace_threshold"
            )
        if free == size:
            self.notes = (
                f"all {size} directions of its keys have a second moment below nullspace_threshold "
                f"{threshold:g} (the largest is {largest:.3g}), so no key is protected; lower it",
            )
        names = ("corpus", "corpus_sha256", "tokens", "tokens_asked", "notes")
        self.report = {n: moment.provenance[n] for n in names if n in moment.provenance}
        self.report |= {"free": free, "directions": size}
        self.report |= {"smallest": smallest, "largest": largest}

    def __call__(self, keys: Float64[Tensor, "request d_in"]) -> Float64[Tensor, "request d_in"]:
        """The free part of every key, less what earlier keys occupy."""
        inside = keys @ self.free
        if len(self.earlier):
            system = self.earlier @ self.earlier.T
            system.diagonal().add_(self.ridge)
            lower = torch.linalg.cholesky(system)
            occupied = torch.cholesky_solve(self.earlier @ inside.T, lower)  # [key request]
            inside = inside - occupied.T @ self.earlier
        return inside @ self.free.T

    def remember(self, keys: Float64[Tensor, "request d_in"]) -> None:
        """Preserve the values of these keys in later updates."""
        self.earlier = torch.cat([self.earlier, keys @ self.free])
