"""Scoring: one pass over old and new answers gives every layer's gradient inner products."""

from lga_fast.scoring.cost_estimate import CostEstimate, Streaming, estimate_cost
from lga_fast.scoring.score import score_layers

__all__ = ["CostEstimate", "Streaming", "estimate_cost", "score_layers"]
