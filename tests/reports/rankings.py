"""A ranking for what people see: negative at every layer, one of them excluded."""

from __future__ import annotations

from lga_fast.records import LayerRanking

NEGATIVE = LayerRanking(
    layer=3,
    selector="lga",
    scores=(-40.0, -2.0, -1.5, -0.5, -1.0),
    order=(3, 4, 2, 1),
    excluded=(0,),
    fences=(-4.0, 1.0),
    stability=(0, 0, 0.1, 0.8, 0.1),
    requests=30,
    notes=("The score is negative at every layer.",),
)
