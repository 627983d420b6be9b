"""Phi 3 and 4: gate and up are one fused matrix, the gate's rows first."""

from dataclasses import replace

from lga_fast.models.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, matrices={"gate_up": "mlp.gate_up_proj", "down": "mlp.down_proj"})
