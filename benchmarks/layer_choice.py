"""What each selector's layer loses: `python benchmarks/layer_choice.py OUT.json PAIR [PAIR ...]`.

A PAIR is NAME=MODEL,DATA,FILE,SWEEP,CHEAP: a model, its facts (`-` for FILE: the embedded ones),
and sweeps of these facts by `real_sweep.py`, CHEAP with `--cheap`. A selector chooses on random
draws of the swept facts; its regret is what its layer lacks of the best one's mean over all of
them. Held out is what it lacks, on the facts that were not drawn, of the layer that brute force
chooses on the draw. Race and brute force are replayed from the sweeps, all else runs. Nothing of it
was chosen by the table but what README says.
"""

from __future__ import annotations

import argparse
import itertools
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lga_fast
from lga_fast import provenance
from lga_fast.selectors import cma
from lga_fast.sweep import statistics
from lga_fast.sweep.result import Sweep

try:
    from benchmarks.choices import editing_choices, gradient_choices
    from benchmarks.real_sweep import facts_of, read
except ImportError:
    from choices import editing_choices, gradient_choices
    from real_sweep import facts_of, read

DRAWS, PROXY, BOOTSTRAP, SEED = 20, 30, 1000, 42


def main() -> None:
    """Judge every pair, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("pairs", nargs="+")
    parser.add_argument("--cma", action="store_true", help="also causal tracing, on one draw")
    parser.add_argument("--jobs", type=int, default=1, help="pairs that are judged at a time")
    given = parser.parse_args()
    pairs = {}
    with ProcessPoolExecutor(
        given.jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        named = [pair.partition("=") for pair in given.pairs]
        judging = {
            name: pool.submit(judge, *rest.split(","), tracing=given.cma) for name, _, rest in named
        }
        for name, found in judging.items():
            pairs[name] = found.result()
            print(name, json.dumps(pairs[name]["facts"]), flush=True)
    about = {"commit": provenance.commit(), "draws": DRAWS, "proxy": PROXY, "seed": SEED}
    given.out.write_text(json.dumps(about | {"pairs": pairs}) + "\n")


def judge(
    source: str, data: str, file: str, swept: str, cheap: str, tracing: bool
) -> dict[str, Any]:
    """Regrets of every selector for one model and its facts."""
    model = lga_fast.load(source, dtype="float32")
    facts = {request.case_id: request for request in facts_of(data, file)}
    full, cheap = read(Path(swept)), read(Path(cheap))
    both = [case_id for case_id in full.case_ids if case_id in set(cheap.case_ids)]
    full, cheap = full.of(both), cheap.of(both)
    requests = [facts[case_id] for case_id in both]
    values = judged(full)
    count = min(PROXY, round(0.75 * len(both)))
    random = np.random.default_rng(SEED)
    draws = [random.permutation(len(both))[:count] for _ in range(DRAWS)]
    rows: dict[str, Any] = {}
    chosen = itertools.chain(
        gradient_choices(model, requests, full), editing_choices(model.layers, full, cheap)
    )
    for name, choose in chosen:
        picked = [choose(draw, number) for number, draw in enumerate(draws)]
        rows[name] = regrets(values, picked)
    for name, layer in (("layer 0", 0), ("layer 5", 5), ("middle layer", model.layers // 2)):
        rows[name] = regrets(values, [(layer, 0.0)] * DRAWS)
    if tracing:
        ranking = cma.Selector().rank(model, [requests[i] for i in draws[0]])
        rows["cma"] = regrets(values, [(ranking.layer, 0.0)])
    for name, table in values.items():
        for selector, lacks in held_out(table, draws, rows, f"brute_force by {name}").items():
            rows[selector][name]["held_out"] = lacks
    return {
        "model": source if not Path(source).exists() else Path(source).name,
        "facts": len(both),
        "proxy": count,
        "layers": model.layers,
        "means": {name: statistics.mean(table).tolist() for name, table in values.items()},
        "selectors": rows,
    }


def judged(swept: Sweep) -> dict[str, np.ndarray]:
    """The scores whose regret is taken [fact layer]."""
    return {"rewrite": swept.acc["rewrite"], "combined": statistics.combined(swept.acc)}


def regrets(values: dict[str, np.ndarray], picked: list[tuple[int, float]]) -> dict[str, Any]:
    """What the picked layers lack, and how often they are far from the best."""
    layers = [layer for layer, _ in picked]
    row: dict[str, Any] = {"layers": layers, "confidence": [round(c, 3) for _, c in picked]}
    for name, table in values.items():
        mean = statistics.mean(table)
        counts = statistics.resamples(len(table), BOOTSTRAP, SEED)
        row[name] = statistics.regret(mean, statistics.means(table, counts), layers)
        row[name]["worst"] = float((mean.max() - mean[layers]).max())
        rank = (mean[:, None] < mean).sum(1)  # ties are equally good
        row[name]["beyond_best_five"] = float((rank[layers] >= 5).mean())
        row[name]["worse_half"] = float((rank[layers] >= len(mean) / 2).mean())
    return row


def held_out(
    table: np.ndarray, draws: list[np.ndarray], rows: dict[str, Any], beside: str
) -> dict[str, dict[str, float]]:
    """What layers lack, on the facts that they were not chosen on, of those chosen by `beside`.

    The best layer of a sweep is partly that of its facts, so that a regret is too large by some
    points for every selector; this is not.
    """
    counts = statistics.resamples(len(table), BOOTSTRAP, SEED)
    counts = np.vstack([np.ones_like(counts[:1]), counts])
    unseen = [np.setdiff1d(np.arange(len(table)), draw) for draw in draws]
    means = np.stack([statistics.means(table[u], counts[:, u]) for u in unseen])
    chosen = {
        name: np.stack([m[:, layer] for m, layer in zip(means, row["layers"], strict=False)])
        for name, row in rows.items()
    }
    found = {}
    for name, own in chosen.items():  # causal tracing has chosen on the first draws only
        value, *drawn = np.nanmean(chosen[beside][: len(own)] - own, axis=0)
        low, high = np.percentile(drawn, [2.5, 97.5])
        found[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return found


if __name__ == "__main__":
    main()
