"""Qwen 3.5 (dense): Llama's module names; three of four layers have linear attention."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

MIXERS = ("linear_attn", "self_attn")

FAMILY = replace(LLAMA, attention=MIXERS, packs=False, decoding="equal")
