# pyright: strict
"""What users write, type-checked strictly by `make lint`: no public name is of unknown type."""

from __future__ import annotations

import lga_fast
from lga_fast import LayerRanking

model = lga_fast.load("atlas")
edits = lga_fast.load_edits("atlas", limit=3)
ranking: LayerRanking = lga_fast.select_layer(model, edits)
several = lga_fast.select_layer(model, edits, ["lga", "salem"])
layer: int = int(ranking)
change = lga_fast.edit(model, edits, "rome", layer=ranking)
with model.edited(change) as applied:
    print(applied.rounding)
changes = lga_fast.edit_each(model, edits, layer=layer)
result = lga_fast.evaluate(model, edits, layer=layer)
mean: float = result.summary.after["rewrite"].mean
scores = lga_fast.score_layers(model, edits)
print(scores.total().argmax(), several["lga"].layer, len(changes), mean)
