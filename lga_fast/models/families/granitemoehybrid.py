"""Granite 4: Mamba in most layers; an MLP for all tokens, and experts beside it in some models."""

from lga_fast.models.families import ModelFamily

_MLP = {"gate_up": "shared_mlp.input_linear", "down": "shared_mlp.output_linear"}

FAMILY = ModelFamily(
    blocks="model.layers",
    matrices={**_MLP, **{f"shared_{role}": path for role, path in _MLP.items()}},
    attention=("mamba", "self_attn"),
    final_norm="model.norm",
    mlp="shared_mlp",
    experts="block_sparse_moe.experts",
    post_mlp_norm=True,  # a factor, as in Granite 3
    packs=False,
    decoding="equal",
)
