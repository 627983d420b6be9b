"""What each selector's layer loses: `python benchmarks/layer_choice.py OUT.json PAIR [PAIR ...]`.

A PAIR is NAME=MODEL,DATA,FILE,SWEEP,CHEAP: a model, its facts (`-` for FILE: the embedded ones),
and sweeps of these facts by `real_sweep.py`, CHEAP with `--cheap`. A selector chooses on random
draws of the swept facts; its regret is what its layer lacks of the best one's mean over all of
them. Race and brute force are replayed from the sweeps, all else runs. Nothing of it was chosen by
the table but what README says.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import lga_fast
from lga_fast import provenance, registry
from lga_fast.layer_scores import SCOPES, LayerScores
from lga_fast.selectors import GradientSelector, _tukey, brute_force, cma, race
from lga_fast.selectors.lga import AGGREGATIONS, per_request
from lga_fast.sweep import statistics
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.successive_halving import VALUES

try:
    from benchmarks.real_sweep import facts_of, read
except ImportError:
    from real_sweep import facts_of, read

DRAWS, PROXY, BOOTSTRAP, SEED = 20, 30, 1000, 42
CHEAPER = 23 / 3  # of cheap edits: see `LayerEdits.cheapen`
PASSES = {  # readings of ℓ(Q∪K) and of K
    "target, decoded": {},
    "target, ground truth": {"old": "ground_truth"},
    "full, decoded": {"loss_scope": "full"},
    "full, ground truth": {"old": "ground_truth", "loss_scope": "full"},
    "target sum, decoded": {"reduction": "sum"},
}
Fences = Literal["sums", "logs", "none"]
Choose = Callable[[np.ndarray, int], tuple[int, float]]  # places of facts, seed: layer, confidence


def main() -> None:
    """Judge every pair, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("pairs", nargs="+")
    parser.add_argument("--cma", action="store_true", help="also causal tracing, on one draw")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pairs = {}
    for name, _, rest in (pair.partition("=") for pair in given.pairs):
        pairs[name] = judge(*rest.split(","), tracing=given.cma)
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
        gradient_choices(model, requests), editing_choices(model.layers, full, cheap)
    )
    for name, choose in chosen:
        picked = [choose(draw, number) for number, draw in enumerate(draws)]
        rows[name] = regrets(values, picked)
    for name, layer in (("layer 0", 0), ("layer 5", 5), ("middle layer", model.layers // 2)):
        rows[name] = regrets(values, [(layer, 0.0)])
    if tracing:
        ranking = cma.Selector().rank(model, [requests[i] for i in draws[0]])
        rows["cma"] = regrets(values, [(ranking.layer, 0.0)])
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


def gradient_choices(model: lga_fast.EditableModel, requests: list) -> Iterator[tuple[str, Choose]]:
    """Selectors that aggregate a pass, and every reading of LGA."""
    for reading, options in PASSES.items():
        scores = lga_fast.score_layers(
            model,
            requests,
            abs_new=not options,
            at_subject=not options,
            show_progress=False,
            **options,
        )
        place = {case_id: i for i, case_id in enumerate(scores.case_ids)}
        places = np.array([place.get(request.case_id, -1) for request in requests])
        for name, choose in choices_of_a_pass(model, reading, scores):
            yield name, partial(of_scored, choose, places)


def of_scored(choose: Choose, places: np.ndarray, draw: np.ndarray, seed: int) -> tuple[int, float]:
    """A choice on the facts of a draw that the pass scored: not those that it answers anew."""
    scored = places[draw]
    return choose(scored[scored >= 0], seed)


def choices_of_a_pass(
    model: lga_fast.EditableModel, reading: str, scores: LayerScores
) -> Iterator[tuple[str, Choose]]:
    """Choices on places of a pass's own facts."""
    if not PASSES[reading]:
        for name in ("lga", "lga_new", "salem", "reach"):
            selector = registry.configured("lga_fast.selectors", name, "Selector", {})
            yield name, aggregated(selector.bound(model), scores)
        yield from reaches(model, scores)
    for scope, aggregation, fences in itertools.product(
        SCOPES, AGGREGATIONS, ("sums", "logs", "none")
    ):
        phi = per_request(scores, scope, aggregation)
        yield (
            f"lga: {reading}; {scope}, {aggregation}, fences on {fences}",
            lambda draw, _, p=phi, f=fences: (fenced(p[draw].sum(0), f), 0),
        )


def aggregated(selector: GradientSelector, scores: LayerScores) -> Choose:
    """A selector's own choice, and the share of resamples that agree."""

    def choose(draw: np.ndarray, _: int) -> tuple[int, float]:
        ranking = selector.aggregate(scores.take(draw.tolist()))
        return ranking.layer, ranking.stability[ranking.layer]

    return choose


def fenced(sums: np.ndarray, fences: Fences) -> int:
    """The layer of the largest sum; fences on sums, on the logs of their magnitudes, or none."""
    if fences == "logs":
        with np.errstate(divide="ignore"):
            inside = _tukey.within(np.log(np.abs(sums)), 1.0)
        return int(np.where(inside, sums, -np.inf).argmax())
    return int(_tukey.choose(sums, 1.0 if fences == "sums" else None))


def reaches(model: lga_fast.EditableModel, scores: LayerScores) -> Iterator[tuple[str, Choose]]:
    """What became of reach on the way: without some of its parts, and other rules to choose."""
    selector = registry.configured("lga_fast.selectors", "reach", "Selector", {"bootstrap": 0})
    selector = selector.bound(model)

    def chosen(left_out: tuple[str, ...], rule: Callable[[np.ndarray], int]) -> Choose:
        parts = scores.at_subject
        parts = parts | {name: parts[name][..., :0] for name in left_out}
        given = replace(scores, at_subject=parts)

        def choose(draw: np.ndarray, _: int) -> tuple[int, float]:
            return rule(np.array(selector.aggregate(given.take(draw.tolist())).scores)), 0.0

        return choose

    def best(reach: np.ndarray) -> int:
        return int(reach.argmax())

    def deepest(reach: np.ndarray) -> int:
        return int(np.flatnonzero(reach >= 0.95 * reach.max())[-1])

    def middle(reach: np.ndarray) -> int:
        works = np.flatnonzero(reach >= reach.max() / 2)
        return int(works[len(works) // 2])

    both = ("rephrase", "locality")
    yield "reach: prompt alone", chosen(both, best)
    yield "reach: prompt alone, deepest within 5%", chosen(both, deepest)
    yield "reach: prompt alone, middle of those above half", chosen(both, middle)
    yield "reach: without paraphrases", chosen(("rephrase",), best)
    yield "reach: without unrelated prompts", chosen(("locality",), best)


def editing_choices(layers: int, full: Sweep, cheap: Sweep) -> Iterator[tuple[str, Choose]]:
    """Race on cheap edits, and brute force."""
    missing = np.full_like(cheap.acc["rewrite"], np.nan)
    table = np.stack([cheap.acc.get(name, missing) for name in VALUES])

    def raced(draw: np.ndarray, seed: int) -> tuple[int, float]:
        selector = race.Selector(seed=seed)
        curve, _ = selector.compare(
            range(layers - 1),  # no later token reads the last one
            len(draw),
            selector.budget(layers - 1, len(draw), CHEAPER),
            lambda some, at: {n: table[:, draw[at.start : at.stop], n] for n in some},
        )
        best = int(np.argmax(curve.mean))
        return best, curve.probability_within(best, race.TOLERANCE, seed)

    yield "race", raced
    for metric in ("rewrite", "combined"):
        values = full.acc["rewrite"] if metric == "rewrite" else statistics.combined(full.acc)
        yield (
            f"brute_force by {metric}",
            lambda draw, _, v=values: (int(statistics.order([statistics.mean(v[draw])])[0]), 0.0),
        )
    yield (
        "brute_force",
        lambda draw, _: (
            brute_force.Selector(bootstrap=0)
            .aggregate(full.of([full.case_ids[i] for i in draw]), layers)
            .layer,
            0.0,
        ),
    )


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


if __name__ == "__main__":
    main()
