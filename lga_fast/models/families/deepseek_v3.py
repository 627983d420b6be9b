"""DeepSeek V3 and R1: latent attention; experts, some of them shared, after a few dense layers."""

from dataclasses import replace

from lga_fast.models.families.mixtral import FAMILY as MIXTRAL

SHARED = {f"shared_{role}": f"mlp.shared_experts.{role}_proj" for role in ("gate", "up", "down")}

FAMILY = replace(MIXTRAL, matrices={**MIXTRAL.matrices, **SHARED}, packs=False)
