"""GPT-2: Conv1D stores its weights d_in × d_out."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="transformer.h",
    matrices={"up": "mlp.c_fc", "down": "mlp.c_proj"},
    attention="attn",
    final_norm="transformer.ln_f",
    orientation="in_out",
)
