"""MEMIT: many facts at once, by ridge regression (Meng et al. 2022, arXiv 2210.07229)."""

from __future__ import annotations

from dataclasses import dataclass

from lga_fast.editors._mass import MassEditor
from lga_fast.editors._moments import Moments
from lga_fast.editors._preconditioner import InverseMoment, Preconditioner
from lga_fast.options import option

# What hparams/MEMIT of other code says, but for the layers: zjunlp/EasyEdit (gpt2-xl, gpt-j-6B;
# llama-7b, llama3.2-3b, mistral-7b, qwen2-7b, qwen2.5-7b) and kmeng01/memit (gpt2-xl, gpt-j-6B: the
# same); xpq-tech/PMET has gpt-neox-20b. lr is 0.5 and kl_factor 0.0625 in all of them.
_FAMILIES = {
    "gpt2": {"steps": 20, "weight_decay": 0.5, "clamp": 0.75, "mom2_weight": 20000.0},
    "gptj": {"steps": 25, "weight_decay": 0.5, "clamp": 0.75, "mom2_weight": 15000.0},
    "gpt_neox": {"steps": 20, "weight_decay": 0.5, "clamp": 0.8, "mom2_weight": 6000.0},
    **{
        name: {"steps": 25, "weight_decay": 1e-3, "clamp": 4.0, "mom2_weight": 15000.0}
        for name in ("llama", "mistral", "qwen2")
    },
}
_PUBLISHED = {"easyedit": _FAMILIES, "original": _FAMILIES}


@dataclass(frozen=True)
class Editor(MassEditor):
    """ΔW minimises ‖ΔW K − R‖² + λ tr(ΔW C ΔWᵀ) (arXiv 2210.07229, eq. 14)."""

    published_hparams = _PUBLISHED  # no field, so without a type
    damping = "mom2_weight"
    window = 5

    mom2_weight: float = option(
        15000.0, "Weight λ of the second moment; less writes more.", above=0
    )

    def preconditioner(self, moment: Moments) -> Preconditioner:
        """`M = (λC)⁻¹`."""
        return InverseMoment(moment, self.mom2_weight)

    def ridge(self, requests: int) -> float:
        """`ρ = 1`: with it `Rᵀ (K M Kᵀ + I)⁻¹ K M` is `Rᵀ K (λC + KᵀK)⁻¹`."""
        return 1.0
