"""Qwen 2 and 2.5: Llama's module names."""

from lga_fast.models.families.llama import FAMILY as FAMILY
