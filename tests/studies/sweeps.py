"""Sweeps with values written by hand, for what reduces them."""

from __future__ import annotations

import numpy as np

from lga_fast.sweep.result import Sweep


def sweep_of(rewrite, layers=None, **more) -> Sweep:
    """A sweep with these values [sample layer]; further ones by name."""
    acc = {"rewrite": rewrite, **more}
    acc = {name: np.array(values, dtype=float) for name, values in acc.items()}
    samples, count = acc["rewrite"].shape
    run = {"seconds_editing": 1.0, "seconds_measuring": 0.5, "forwards": 10, "peak_bytes": 9}
    return Sweep(
        acc,
        {name: np.zeros(samples) for name in acc},
        tuple(f"case{i}" for i in range(samples)),
        tuple(range(count)) if layers is None else layers,
        (),
        {"runs": [run | {"layer": layer} for layer in range(count)], "notes": {}},
    )
