"""EMMET: ROME's equality for many facts at once (Gupta et al. 2024, arXiv 2403.14236)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lga_fast.editors._mass import MassEditor
from lga_fast.editors._moments import Moments
from lga_fast.editors._preconditioner import InverseMoment, Preconditioner
from lga_fast.options import option

# What hparams/EMMET of other code says, but for the layers: zjunlp/EasyEdit (gpt2-xl, gpt-j-6B;
# llama-7b, llama3.2-3b) and, for "original", scalable-model-editing/unified-model-editing (gpt2-xl,
# gpt-j-6B; llama2-7b). lr is 0.5, kl_factor 0.0625 and emmet_lambda 0.1 in all of them.
_GPT2 = {"steps": 20, "weight_decay": 0.5, "clamp": 0.75}
_GPTJ = {"steps": 25, "weight_decay": 0.5, "clamp": 0.75}
_LLAMA = {"steps": 25, "weight_decay": 1e-3, "clamp": 4.0}
_PUBLISHED = {
    "easyedit": {
        "gpt2": {**_GPT2, "mom2_weight": 1e4},
        "gptj": {**_GPTJ, "mom2_weight": 1e5},
        "llama": {**_LLAMA, "mom2_weight": 1e5},
    },
    "original": {
        "*": {"lambda_policy": "batch_gt_1", "mom2_weight": 1.0},
        "gpt2": {**_GPT2, "mom2_weight": 1000.0},
        "gptj": _GPTJ,
        "llama": _LLAMA,
    },
}


@dataclass(frozen=True)
class Editor(MassEditor):
    """(W + ΔW) K = W K + R with the least tr(ΔW C ΔWᵀ), where λ_E is 0 (arXiv 2403.14236)."""

    published_hparams = _PUBLISHED  # no field, so without a type
    damping = "emmet_lambda"

    mom2_weight: float = option(1e5, "Weight λ of the second moment.", above=0)
    update_norm_lambda: float = option(0.0, "Weight of ‖ΔW‖² added to the second moment's.", min=0)
    emmet_lambda: float = option(0.1, "Ridge that relaxes the equality; 0 enforces it.", min=0)
    lambda_policy: Literal["always", "batch_gt_1"] = option(
        "always", "Whether emmet_lambda applies to a single request too."
    )

    def preconditioner(self, moment: Moments) -> Preconditioner:
        """`M = (λC + update_norm_lambda · I)⁻¹`."""
        return InverseMoment(moment, self.mom2_weight, self.update_norm_lambda)

    def ridge(self, requests: int) -> float:
        """`ρ = λ_E`."""
        single = requests == 1 and self.lambda_policy == "batch_gt_1"
        return 0.0 if single else self.emmet_lambda
