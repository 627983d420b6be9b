"""Qwen 3.5, mixtures of experts: Qwen3-Next's module names."""

from lga_fast.models.families.qwen3_next import FAMILY as FAMILY
