"""StarCoder2: Llama's module names around GPT-2's MLP, as nn.Linear."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, matrices={"up": "mlp.c_fc", "down": "mlp.c_proj"})
