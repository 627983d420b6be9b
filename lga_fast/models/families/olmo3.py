"""OLMo 3: OLMo 2 with sliding windows in three of four layers."""

from lga_fast.models.families.olmo2 import FAMILY as FAMILY
