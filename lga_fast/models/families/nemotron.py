"""Nemotron 3 and 4: Llama's module names around an MLP of two matrices."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, matrices={"up": "mlp.up_proj", "down": "mlp.down_proj"})
