"""Gemma 2: Llama's module names; a norm follows the MLP, and the head softcaps its logits."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, post_mlp_norm=True)
