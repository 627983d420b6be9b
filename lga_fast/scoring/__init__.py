"""Scoring: one pass over old and new answers gives every layer's gradient inner products.

`score` runs the pass: `pairs` makes the token rows, `batch_layout` puts them into batches, and
`scoring_pass` runs one batch, whose results come by `arrival`; `options` is what a pass can be
asked for. Beside that way lie `subject_sums` (what a change at the subject would do, where that is
asked for), `layer_major_pass` (block by block: streamed weights, or activations that do not fit),
`checkpoint` (a streamed pass that goes on after a kill), `data_parallel` (several processes), and
`cost_estimate` (what a pass will hold and read).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lga_fast.scoring.score import score_layers

if TYPE_CHECKING:
    from lga_fast.scoring.cost_estimate import CostEstimate, Streaming, estimate_cost

__all__ = ["CostEstimate", "Streaming", "estimate_cost", "score_layers"]


def __getattr__(name: str) -> Any:
    # A selection does not need an estimate, nor what that imports.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lga_fast.scoring import cost_estimate

    return getattr(cost_estimate, name)
