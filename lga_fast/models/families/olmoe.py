"""OLMoE: named like Mixtral."""

from lga_fast.models.families.mixtral import FAMILY

__all__ = ["FAMILY"]
