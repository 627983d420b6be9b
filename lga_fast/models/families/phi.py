"""Phi 1 and 2: attention and MLP run in parallel from one norm; the head has a bias."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="model.layers",
    matrices={"up": "mlp.fc1", "down": "mlp.fc2"},
    attention="self_attn",
    final_norm="model.final_layernorm",
)
