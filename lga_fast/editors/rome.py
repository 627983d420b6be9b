"""ROME: one fact, one rank-1 update of the down projection (Meng et al. 2022, arXiv 2202.05262)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from lga_fast.editors import _rank_one
from lga_fast.editors._value_solver import Value
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit

# What hparams/ROME of other code says: zjunlp/EasyEdit (gpt2-xl, gpt-j-6B; llama-7b, llama3-8b,
# llama3.2-3b, mistral-7b, qwen2-7b, qwen2.5-7b), kmeng01/rome (gpt2-medium, gpt2-large) and
# kmeng01/memit (gpt-neox-20b). In all of them lr is 0.5, kl_factor 0.0625 and clamp 4 if not here.
_FAMILIES = {
    **{name: {"steps": 20, "weight_decay": 0.5} for name in ("gpt2", "gptj", "gpt_neox")},
    **{name: {"steps": 25, "weight_decay": 1e-3} for name in ("llama", "mistral", "qwen2")},
}
_PUBLISHED = {
    "easyedit": _FAMILIES,
    # kmeng01/rome; it lists no Llama, Mistral or Qwen, for which EasyEdit's numbers stand.
    "original": {"*": {"mom2_adjustment": True}, **_FAMILIES, "gpt2-medium": {"clamp": 3.0}},
}


@dataclass(frozen=True)
class Editor:
    """(W + ΔW) k₀ + b = v* for the bare prompt's key k₀, along u of the mean key."""

    published_hparams = _PUBLISHED  # no field, so without a type

    steps: int = field(
        default=25, metadata={"help": "Forwards; another default for some families.", "min": 1}
    )
    weight_decay: float = field(
        default=1e-3,
        metadata={"help": "Weight of ‖δ‖; another default for some families.", "min": 0},
    )
    lr: float = field(default=0.5, metadata={"help": "Adam's learning rate.", "above": 0})
    kl_factor: float = field(default=0.0625, metadata={"help": "Weight of the KL term.", "min": 0})
    clamp: float = field(
        default=4.0, metadata={"help": "Radius of δ in units of ‖v_init‖.", "above": 0}
    )
    mom2_adjustment: bool = field(
        default=False,
        metadata={"help": "Weigh keys by their second moment; off in EasyEdit, on in ROME's code."},
    )
    corpus: str | None = field(
        default=None, metadata={"help": "Text of the second moment; default: the atlas's."}
    )
    mom2_tokens: int | None = field(
        default=None,
        metadata={"help": "Tokens of that text to read; default: 10 times d_in.", "min": 1},
    )
    contexts: tuple[str, ...] | None = field(
        default=None, metadata={"help": "Texts before the prompt; default: sampled by the model."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the contexts."})

    def prepare(self, model: EditableModel, layer: int) -> _rank_one.RankOne:
        """Contexts and second moment of the model as it is."""
        return _rank_one.RankOne(model, layer, "rome", self, update)

    def solve(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> WeightEdit:
        """One rank-1 change per request, each solved on the model that the ones before left."""
        return self.prepare(model, layer).solve_joint(requests)

    def solve_each(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> list[WeightEdit]:
        """One edit for each request, solved together on the model as it is."""
        return self.prepare(model, layer).solve_independent(requests)


def update(
    value: Value,
    keys: Float[Tensor, "row d_in"],
    outputs: Float[Tensor, "row d_out"],
    u: Float[Tensor, " d_in"],
) -> tuple[Float[Tensor, " d_out"], Float[Tensor, " d_in"]]:
    """Factors r = (v* - o₀) / (k₀·u) and u of ΔW (arXiv 2202.05262, eq. 2); row 0 is bare."""
    return (value.initial + value.delta - outputs[0]) / (keys[0] @ u), u
