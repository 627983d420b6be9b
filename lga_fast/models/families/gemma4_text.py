"""Gemma 4: Gemma 3's module names, inputs for each layer (E2B, E4B), experts beside the MLP."""

from dataclasses import replace

from lga_fast.models.families.gemma3_text import FAMILY as GEMMA3

PER_LAYER = ("per_layer_input_gate", "per_layer_projection")

FAMILY = replace(
    GEMMA3,
    matrices={**GEMMA3.matrices, **{f"shared_{r}": path for r, path in GEMMA3.matrices.items()}},
    experts="experts",
    others=PER_LAYER,
    packs=False,
)
