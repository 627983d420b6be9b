"""Exaone 4: OLMo 2's module names, with norms after attention and MLP."""

from lga_fast.models.families.olmo2 import FAMILY as FAMILY
