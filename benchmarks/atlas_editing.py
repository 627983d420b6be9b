"""What R-ROME does at every layer of both atlas models: `python benchmarks/atlas_editing.py`.

60 facts that took no part in choosing a layer, each edited alone at every layer with the options
that the models' own `editing.json` recommends, measured under virtual edits; beside it the layer
that LGA chooses on 30 others. One process for each model, one thread each; writes
results/atlas_editing.json.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

import lga_fast
from lga_fast.datasets import split
from lga_fast.studies import sweep

try:
    from benchmarks import timing
    from benchmarks.atlas_profile import FACTS, MODELS
except ImportError:
    import timing
    from atlas_profile import FACTS, MODELS

SEED = 42
TEST = 60


def profile(name: str) -> dict[str, Any]:
    """Means and standard errors of every metric, by layer."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # the sweep keeps the notes
    model = lga_fast.load(name, device="cpu")
    parts = split(lga_fast.load_edits("atlas"), FACTS, SEED)
    ranking = lga_fast.select_layer(model, parts.proxy, seed=SEED)
    test = list(parts.test)[:TEST]
    found = sweep(model, test, show_progress=False)
    metrics = {}
    for metric in ("rewrite", "rephrase", "locality"):
        values = found.values(metric)
        there = (~np.isnan(values)).sum(0)
        metrics[metric] = {
            "mean": np.nanmean(values, 0).tolist(),
            "standard_error": (np.nanstd(values, 0, ddof=1) / np.sqrt(there)).tolist(),
        }
    return {
        "model": name,
        "facts": len(test),
        "selected": ranking.layer,
        "metrics": metrics,
        "seconds": found.seconds(),
        "provenance": found.provenance,
    }


def main() -> None:
    """Both models."""
    with ProcessPoolExecutor(len(MODELS), mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(profile, MODELS))
    timing.write_result("atlas_editing", rows, SEED)


if __name__ == "__main__":
    main()
