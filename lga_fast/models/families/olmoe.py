"""OLMoE: Mixtral's module names."""

from lga_fast.models.families.mixtral import FAMILY as FAMILY
