"""MiniMax-Text-01: Mixtral's module names; most layers have linear attention, with a state."""

from dataclasses import replace

from lga_fast.models.families.mixtral import FAMILY as MIXTRAL

FAMILY = replace(MIXTRAL, post_mlp_norm=True, packs=False, decoding="equal")  # a factor, as Granite
