"""How each selector chooses on some of the facts that a pass or a sweep has already judged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

import lga_fast
from lga_fast import registry
from lga_fast.layer_scores import SCOPES, LayerScores
from lga_fast.selectors import GradientSelector, _tukey, brute_force, race, reach
from lga_fast.selectors.lga import AGGREGATIONS, per_request
from lga_fast.sweep import statistics
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.successive_halving import VALUES

PASSES = {  # readings of ℓ(Q∪K) and of K
    "target, decoded": {},
    "target, ground truth": {"old": "ground_truth"},
    "full, decoded": {"loss_scope": "full"},
    "full, ground truth": {"old": "ground_truth", "loss_scope": "full"},
    "target sum, decoded": {"reduction": "sum"},
}
Fences = Literal["sums", "logs", "none"]
Choose = Callable[[np.ndarray, int], tuple[int, float]]  # places of facts, seed: layer, confidence


def gradient_choices(
    model: lga_fast.EditableModel, requests: list, full: Sweep
) -> Iterator[tuple[str, Choose]]:
    """Selectors that aggregate a pass, for the sweep's editor, and every reading of LGA."""
    run = full.provenance["configuration"]
    editing = {"editor": run["editor"], "config": run["config"]}
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
        foreseen = scores
        if not options:
            foreseen = reach.Selector(**editing).completed(model, requests, scores)
        for name, choose in choices_of_a_pass(reading, foreseen):
            yield name, partial(of_scored, choose, places)


def of_scored(choose: Choose, places: np.ndarray, draw: np.ndarray, seed: int) -> tuple[int, float]:
    """A choice on the facts of a draw that the pass scored: not those that it answers anew."""
    scored = places[draw]
    return choose(scored[scored >= 0], seed)


def choices_of_a_pass(reading: str, scores: LayerScores) -> Iterator[tuple[str, Choose]]:
    """Choices on places of a pass's own facts; the first pass is completed for reach."""
    if not PASSES[reading]:
        for name in ("lga", "lga_new", "salem"):
            selector = registry.configured("lga_fast.selectors", name, "Selector", {})
            yield name, aggregated(selector, scores)
        yield from reaches(scores)
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


def reaches(scores: LayerScores) -> Iterator[tuple[str, Choose]]:
    """Reach, and what became of it: without some of its parts, and other rules to choose."""
    yield "reach", aggregated(reach.Selector(), scores)
    selector, at = reach.Selector(bootstrap=0), scores.at_subject
    whole = replace(scores, at_subject=at | {"written": np.ones_like(at["written"])})
    yield "reach: as if all of a change were written", aggregated(selector, whole)

    def chosen(left_out: tuple[str, ...], rule: Callable[[np.ndarray], int]) -> Choose:
        parts = at | {name: at[name][..., :0] for name in left_out}
        given = replace(scores, at_subject=parts)

        def choose(draw: np.ndarray, _: int) -> tuple[int, float]:
            return rule(np.array(selector.aggregate(given.take(draw.tolist())).scores)), 0.0

        return choose

    def best(forecast: np.ndarray) -> int:
        return int(forecast.argmax())

    def deepest(forecast: np.ndarray) -> int:
        return int(np.flatnonzero(forecast >= 0.95 * forecast.max())[-1])

    def middle(forecast: np.ndarray) -> int:
        works = np.flatnonzero(forecast >= forecast.max() / 2)
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
    run = full.provenance["configuration"]
    editor = registry.member("lga_fast.editors", run["editor"]).Editor(**run["config"])

    def raced(draw: np.ndarray, seed: int) -> tuple[int, float]:
        selector = race.Selector(seed=seed)
        curve, _ = selector.compare(
            range(layers - 1),  # no later token reads the last one
            len(draw),
            selector.budget(layers - 1, len(draw), editor.times_cheaper),
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
