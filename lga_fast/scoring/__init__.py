"""Scoring: one pass over old and new answers gives every layer's gradient inner products."""

from lga_fast.scoring.engine import score_layers
from lga_fast.scoring.forecast import Forecast, Streaming, forecast

__all__ = ["Forecast", "Streaming", "forecast", "score_layers"]
