"""SmolLM3: Llama's module names; some layers have no rotary positions."""

from lga_fast.models.families.llama import FAMILY as FAMILY
