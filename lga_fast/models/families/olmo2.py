"""OLMo 2: Llama's module names; norms follow attention and MLP instead of preceding them."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, post_mlp_norm=True)
