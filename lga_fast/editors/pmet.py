"""PMET: MEMIT with values found beside the attention's (Li et al. 2023, arXiv 2308.08742)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lga_fast.editors import memit
from lga_fast.editors._value_solver import Optimisation

# What hparams/PMET of other code says, but for the layers: zjunlp/EasyEdit (gpt-j-6B; llama-7b,
# llama3.2-3b) and xpq-tech/PMET (gpt-j-6B, gpt-neox-20b). nll_factor is 1 in all of them.
_GPTJ = {"steps": 30, "lr": 0.2, "kl_factor": 1.0, "clamp": 0.75, "weight_decay": 0.5}
_NEOX = {"steps": 30, "lr": 0.5, "kl_factor": 0.8, "clamp": 0.8, "weight_decay": 0.5}
_LLAMA = {"steps": 20, "lr": 0.5, "kl_factor": 0.0625, "clamp": 1.0, "weight_decay": 0.5}
_FAMILIES = {"gptj": _GPTJ, "gpt_neox": _NEOX, "llama": _LLAMA, "llama-3.2-3b": {"steps": 25}}
_PUBLISHED = {
    "easyedit": _FAMILIES,
    "original": {**_FAMILIES, "gptj": {**_GPTJ, "mom2_weight": 6000.0}},
}


@dataclass(frozen=True)
class Editor(memit.Editor):
    """MEMIT's ΔW for the MLP's part of a change that the attention's output shares while sought.

    The attention's part is not written. Every layer takes 1/√n of what is left instead of 1/n.
    """

    published_hparams = _PUBLISHED  # no field, so without a type
    sites = ("mlp", "attention")

    steps: int = field(
        default=20, metadata={"help": "Forwards; another default for some families.", "min": 1}
    )
    weight_decay: float = field(
        default=0.5,
        metadata={"help": "Weight of ‖δ‖; another default for some families.", "min": 0},
    )
    clamp: float = field(
        default=1.0, metadata={"help": "Radius of δ in units of ‖v_init‖.", "above": 0}
    )
    nll_factor: float = field(
        default=1.0,
        metadata={"help": "Weight of NLL until the answer is the likeliest.", "above": 0},
    )

    def part(self, left: int) -> float:
        """1/√n: later layers find less left to do than in MEMIT."""
        return left**-0.5

    def optimisation(self) -> Optimisation:
        """With the rule for answers that are the likeliest already, as PMET's code has it."""
        return replace(super().optimisation(), nll_factor=self.nll_factor, rest_kl=0.01)
