"""Qwen3-Next: Qwen 2's mixture of experts; three of four layers have linear attention."""

from dataclasses import replace

from lga_fast.models.families.qwen2_moe import FAMILY as QWEN2_MOE
from lga_fast.models.families.qwen3_5_text import MIXERS

FAMILY = replace(QWEN2_MOE, attention=MIXERS, packs=False, decoding="equal")
