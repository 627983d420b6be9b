"""OPT: the MLP's two matrices belong to the block itself; there is no MLP module."""

from lga_fast.models.families import ModelFamily

FAMILY = ModelFamily(
    blocks="model.decoder.layers",
    matrices={"up": "fc1", "down": "fc2"},
    attention="self_attn",
    final_norm="model.decoder.final_layer_norm",
    mlp="fc2",  # its output is the MLP's output
)
