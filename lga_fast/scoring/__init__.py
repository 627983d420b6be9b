"""Scoring: one pass over old and new answers gives every layer's gradient inner products."""

from lga_fast.scoring.engine import score_layers

__all__ = ["score_layers"]
