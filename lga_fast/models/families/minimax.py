"""MiniMax-Text-01: Mixtral's module names; most layers have linear attention, with a state."""

from dataclasses import replace

from lga_fast.models.families.mixtral import FAMILY as MIXTRAL

# Its MLP's output is scaled, as Granite's. It takes no cache but one of its own class, which blocks
# that run one at a time are not given.
FAMILY = replace(MIXTRAL, post_mlp_norm=True, packs=False, decoding="plain")
