"""GPT-Neo: GPT-2's module names, but nn.Linear matrices (d_out × d_in)."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="transformer.h",
    matrices={"up": "mlp.c_fc", "down": "mlp.c_proj"},
    attention="attn",
    final_norm="transformer.ln_f",
)
