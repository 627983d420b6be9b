"""Llama 4: experts beside an MLP for all tokens, in every layer or in every other one."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

_ROLES = ("gate", "up", "down")

FAMILY = replace(
    LLAMA,
    matrices={
        **{role: f"feed_forward.{role}_proj" for role in _ROLES},
        **{f"shared_{role}": f"feed_forward.shared_expert.{role}_proj" for role in _ROLES},
    },
    mlp="feed_forward",
    experts="feed_forward.experts",
    packs=False,
)
