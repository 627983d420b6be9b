"""ERNIE 4.5, mixtures of experts: DeepSeek V3's module names, with ordinary attention."""

from lga_fast.models.families.deepseek_v3 import FAMILY as FAMILY
