"""Qwen 3, mixtures of experts; some layers may have an ordinary MLP instead."""

from lga_fast.models.families.mixtral import FAMILY

__all__ = ["FAMILY"]
