"""Gemma 3, text-only checkpoints: Llama's module names; a norm follows the MLP."""

from lga_fast.models.families.llama import FAMILY

__all__ = ["FAMILY"]
