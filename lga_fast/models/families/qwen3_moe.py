"""Qwen 3, mixtures of experts; some layers may have a dense MLP instead."""

from lga_fast.models.families.mixtral import FAMILY as FAMILY
