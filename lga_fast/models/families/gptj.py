"""GPT-J: attention and MLP run in parallel from one norm."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="transformer.h",
    matrices={"up": "mlp.fc_in", "down": "mlp.fc_out"},
    attention="attn",
    final_norm="transformer.ln_f",
)
