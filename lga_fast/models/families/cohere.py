"""Command R: Llama's module names; attention and MLP run in parallel from one norm."""

from lga_fast.models.families.llama import FAMILY as FAMILY
