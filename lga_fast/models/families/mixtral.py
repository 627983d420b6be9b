"""Mixtral: Llama's module names; the MLP is a mixture of experts."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, experts="mlp.experts")
