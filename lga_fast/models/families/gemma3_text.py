"""Gemma 3, text-only checkpoints: Llama's module names; a norm follows the MLP."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, post_mlp_norm=True)
