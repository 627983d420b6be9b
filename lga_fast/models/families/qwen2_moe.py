"""Qwen 1.5 and 2, mixtures of experts, one of them shared by all tokens."""

from dataclasses import replace

from lga_fast.models.families.mixtral import FAMILY as MIXTRAL

SHARED = {f"shared_{role}": f"mlp.shared_expert.{role}_proj" for role in ("gate", "up", "down")}

FAMILY = replace(MIXTRAL, matrices={**MIXTRAL.matrices, **SHARED})
