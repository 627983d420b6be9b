"""ROME: one fact, one rank-1 update of the down projection (Meng et al. 2022, arXiv 2202.05262)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from lga_fast.editors import _rank_one
from lga_fast.editors._values import Value
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit


@dataclass(frozen=True)
class Editor:
    """(W + ΔW) k₀ + b = v* for the bare prompt's key k₀, along u of the mean key."""

    steps: int | None = field(default=None, metadata={"help": "Forwards; default by family."})
    weight_decay: float | None = field(default=None, metadata={"help": "Default by family."})
    lr: float = field(default=0.5, metadata={"help": "Adam's learning rate."})
    kl_factor: float = field(default=0.0625, metadata={"help": "Weight of the KL term."})
    clamp: float = field(default=4.0, metadata={"help": "Radius of δ in units of ‖v_init‖."})
    mom2_adjustment: bool = field(
        default=False,
        metadata={"help": "Weigh keys by their second moment; off in EasyEdit, on in ROME's code."},
    )
    corpus: str | None = field(
        default=None, metadata={"help": "Text of the second moment; default: the atlas's."}
    )
    contexts: tuple[str, ...] | None = field(
        default=None, metadata={"help": "Texts before the prompt; default: sampled by the model."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the contexts."})

    def solve(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> WeightEdit:
        """One rank-1 change per request; see `lga_fast.edit`."""
        return _rank_one.solve(model, requests, layer, "rome", self, update)


def update(
    value: Value,
    keys: Float[Tensor, "row d_in"],
    outputs: Float[Tensor, "row d_out"],
    u: Float[Tensor, " d_in"],
) -> tuple[Float[Tensor, " d_out"], Float[Tensor, " d_in"]]:
    """Factors r = (v* - o₀) / (k₀·u) and u of ΔW (arXiv 2202.05262, eq. 2); row 0 is bare."""
    return (value.initial + value.delta - outputs[0]) / (keys[0] @ u), u
