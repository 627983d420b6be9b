"""Falcon, old (7B) and new (40B) architecture; attention and MLP run in parallel."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="transformer.h",
    matrices={"up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h"},
    attention="self_attention",
    final_norm="transformer.ln_f",
)
