"""Seed-OSS: Llama's module names."""

from lga_fast.models.families.llama import FAMILY as FAMILY
