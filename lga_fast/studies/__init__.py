"""Studies: each member is one experiment of the paper, made of sweeps and rankings."""

from __future__ import annotations

from lga_fast.studies._sweep import Sweep, sweep

__all__ = ["Sweep", "sweep"]
