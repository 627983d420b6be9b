"""GPT-Neo: named like GPT-2, but its matrices are nn.Linear (d_out × d_in)."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="transformer.h",
    matrices={"up": "mlp.c_fc", "down": "mlp.c_proj"},
    attention="attn",
    final_norm="transformer.ln_f",
)
