"""Granite 3: Llama's module names; the MLP's output is scaled before the residual add."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, post_mlp_norm=True)  # a change of the block's output needs the factor too
