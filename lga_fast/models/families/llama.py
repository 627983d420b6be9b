"""Llama 1 to 3, and all families that use its module names."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="model.layers",
    matrices={"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"},
    attention="self_attn",
    final_norm="model.norm",
)
