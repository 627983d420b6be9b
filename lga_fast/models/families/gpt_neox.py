"""GPT-NeoX and Pythia."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="gpt_neox.layers",
    matrices={"up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h"},
    attention="attention",
    final_norm="gpt_neox.final_layer_norm",
)
