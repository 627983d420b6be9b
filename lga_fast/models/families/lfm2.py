"""LFM2: most layers have a short convolution instead of attention."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="model.layers",
    matrices={"gate": "feed_forward.w1", "up": "feed_forward.w3", "down": "feed_forward.w2"},
    attention=("conv", "self_attn"),
    final_norm="model.embedding_norm",
    mlp="feed_forward",
    packs=False,
    decoding="equal",
)
