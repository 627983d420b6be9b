"""ROME: one fact, one rank-1 update of the down projection (Meng et al. 2022, arXiv 2202.05262)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lga_fast.editors import _moment_sources
from lga_fast.editors._layer_editor import LayerEditor
from lga_fast.editors._rank_one import RankOneSolver
from lga_fast.models import EditableModel
from lga_fast.options import option

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
class Editor(LayerEditor):
    """(W + ΔW) k₀ + b = v* for the bare prompt's key k₀, along u of the mean key."""

    published_hparams = _PUBLISHED  # no field, so without a type

    mom2_adjustment: bool = option(
        False, "Weigh keys by their second moment; off in EasyEdit, on in ROME's code."
    )

    def measure(self, model: EditableModel, layers: Sequence[int]) -> None:
        """The second moments, with `mom2_adjustment`."""
        if self.mom2_adjustment:
            _moment_sources.store(model, layers, self)

    def prepare(self, model: EditableModel, layer: int) -> RankOneSolver:
        """Contexts and, with `mom2_adjustment`, the second moment of the model as it is."""
        return RankOneSolver(model, layer, self, bare, self.mom2_adjustment)


def bare(rows: Float[Tensor, "row d"]) -> Float[Tensor, " d"]:
    """The bare prompt's: the first."""
    return rows[0]
