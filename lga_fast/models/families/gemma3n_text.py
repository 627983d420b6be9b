"""Gemma 3n: Gemma 3's module names beside several residual streams and inputs for each layer."""

from dataclasses import replace

from lga_fast.models.families.gemma3_text import FAMILY as GEMMA3
from lga_fast.models.families.gemma4_text import PER_LAYER

FAMILY = replace(GEMMA3, others=("altup", "laurel", *PER_LAYER), packs=False, restarts=False)
