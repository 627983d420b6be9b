"""LGA's layer and full profile on both atlas models, for three draws of 30 proxy facts.

`python benchmarks/atlas_profile.py` writes results/atlas_profile.json: whole rankings.
"""

from __future__ import annotations

import json

import torch

import lga_fast
from lga_fast.datasets import split

try:
    from benchmarks import timing
except ImportError:
    import timing

MODELS = ("atlas", "atlas-llama")
SEEDS = (42, 1, 2)
FACTS = 30


def main() -> None:
    """Rank every model under every seed."""
    torch.set_num_threads(1)  # the same bits whatever the number of cores
    edits = lga_fast.load_edits("atlas")
    rows = []
    for name in MODELS:
        model = lga_fast.load(name, device="cpu")
        for seed in SEEDS:
            proxy = split(edits, FACTS, seed).proxy
            ranking = lga_fast.select_layer(model, proxy, seed=seed)
            rows.append(json.loads(ranking.to_json()))
            timing.say(f"{name}, seed {seed}: layer {ranking.layer}, order {ranking.order}")
    timing.write_result("atlas_profile", rows)


if __name__ == "__main__":
    main()
