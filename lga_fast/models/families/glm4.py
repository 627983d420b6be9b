"""GLM-4 (0414): Phi 3's fused gate and up; norms follow attention and MLP too."""

from dataclasses import replace

from lga_fast.models.families.phi3 import FAMILY as PHI3

FAMILY = replace(PHI3, post_mlp_norm=True)
