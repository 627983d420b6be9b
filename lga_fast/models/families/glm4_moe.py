"""GLM-4.5: DeepSeek V3's module names, with ordinary attention."""

from lga_fast.models.families.deepseek_v3 import FAMILY as FAMILY
