"""PMET: MEMIT with values optimised beside the attention's (Li et al. 2023, arXiv 2308.08742)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lga_fast.editors import memit
from lga_fast.editors._value_problem import Optimisation
from lga_fast.options import option

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
    """MEMIT's ΔW for the MLP's δ, which is optimised together with one of the attention's output.

    The attention's δ is not written. Each of n remaining layers takes 1/√n of the residual instead
    of 1/n.
    """

    published_hparams = _PUBLISHED  # no field, so without a type
    sites = ("mlp", "attention")

    steps: int = option(
        20, "Forward passes of the optimisation; some families have another default.", min=1
    )
    weight_decay: float = option(
        0.5, "Weight of ‖δ‖ in the loss; some families have another default.", min=0
    )
    clamp: float = option(1.0, "Largest ‖δ‖ in units of ‖v_init‖.", above=0)
    nll_factor: float = option(1.0, "Weight of NLL until the answer is the likeliest.", above=0)

    def part(self, layers_left: int) -> float:
        """1/√n: later layers have less left to do than in MEMIT."""
        return layers_left**-0.5

    def optimisation(self) -> Optimisation:
        """With the rule of PMET's code for answers that are the likeliest already."""
        return replace(super().optimisation(), nll_factor=self.nll_factor, rest_kl=0.01)
