"""Gemma 2: Llama's module names; a norm follows the MLP, and the head softcaps its logits."""

from lga_fast.models.families.llama import FAMILY

__all__ = ["FAMILY"]
