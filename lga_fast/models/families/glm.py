"""GLM-4 (9B) and GLM-Edge: Phi 3's module names."""

from lga_fast.models.families.phi3 import FAMILY as FAMILY
