"""What every selector chooses on a trial's proxy facts, and how firmly."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from lga_fast import registry
from lga_fast.records import SCOPES, LayerRanking, LayerScores, Scope
from lga_fast.scoring import score_layers
from lga_fast.selectors import _tukey, lga, lga_verified
from lga_fast.selectors._gradient_selector import Scored
from lga_fast.studies._trials import Trial
from lga_fast.sweep import statistics
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.successive_halving import halve

Aggregation = Literal["signed", "absolute", "cosine"]
AGGREGATIONS: tuple[Aggregation, ...] = ("signed", "absolute", "cosine")
RANDOM = 3  # layers drawn, as in arXiv 2602.20207, appendix E

_SELECTORS = "lga_fast.selectors"


@dataclass(frozen=True)
class Choice:
    """A selector's layer, or layers whose mean counts."""

    name: str
    layers: tuple[int, ...]
    shares: Float[np.ndarray, " layer"] | None  # of resamples of the proxy facts that choose each
    notes: tuple[str, ...] = ()


def choices(trial: Trial, proxy: Sweep, draws: int) -> list[Choice]:
    """Of every member of `lga_fast.selectors`; LGA also in variants.

    Args:
        trial: whose model and proxy facts are used.
        proxy: its sweep of the proxy facts.
        draws: resamples of the proxy facts.
    """
    seed, facts = trial.setting.seed, trial.split.proxy
    scores = score_layers(trial.model, facts, abs_new=True)
    found: list[Choice] = []
    for name in registry.names(_SELECTORS):
        selector = _configured(name, trial, draws)
        if name == "lga":
            found += [lga_variant(scores, s, a, draws, seed) for a in AGGREGATIONS for s in SCOPES]
        elif name == "brute_force":
            found.append(_of(selector.aggregate(proxy, trial.model.layers)))
        elif name == "random_layer":
            order = selector.rank(trial.model, facts).order
            found.append(Choice(f"{name} (mean of {RANDOM})", order[:RANDOM], None))
            found.append(Choice(f"{name} (mean of all)", order, None))
        elif name == "lga_verified":
            ranking = selector.rank(trial.model, facts)
            shares = verified_shares(trial, selector, scores, ranking, draws)
            found.append(replace(_of(ranking), shares=shares))
        elif isinstance(selector, Scored):
            found.append(_of(selector.aggregate(scores)))
        elif name != "fixed" or selector.layer < trial.model.layers:
            found.append(_of(selector.rank(trial.model, facts)))
    return found


def chosen_layers(trial: Trial, proxy: Sweep) -> dict[str, tuple[int, ...]]:
    """The layer of every selector that looks at the proxy facts, and some drawn at random.

    Args:
        trial: whose model and proxy facts are used.
        proxy: its sweep of the proxy facts.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name in registry.names(_SELECTORS):
        selector = _configured(name, trial, draws=0)
        if name == "brute_force":
            found[name] = (selector.aggregate(proxy, trial.model.layers).layer,)
        elif name == "random_layer":
            drawn = selector.rank(trial.model, trial.split.proxy).order[:RANDOM]
            found[f"{name} (mean of {RANDOM})"] = drawn
        elif name != "fixed":
            found[name] = (selector.rank(trial.model, trial.split.proxy).layer,)
    return found


def _configured(name: str, trial: Trial, draws: int) -> Any:
    """A selector with what the trial says of its options."""
    asked = trial.setting
    about = {"editor": trial.editor, "preset": asked.preset, "config": asked.config}
    about |= {"seed": asked.seed, "bootstrap": draws}
    known = {field.name for field in fields(registry.member(_SELECTORS, name).Selector)}
    options = {key: value for key, value in about.items() if key in known}
    return registry.configured(_SELECTORS, name, "Selector", options)


def _of(ranking: LayerRanking) -> Choice:
    shares = np.array(ranking.stability) if ranking.stability else None
    return Choice(ranking.selector, (ranking.layer,), shares, ranking.notes)


def lga_variant(
    scores: LayerScores, scope: Scope, how: Aggregation, draws: int, seed: int
) -> Choice:
    """LGA over a scope's parameters with another aggregation; "signed" is the paper's."""
    constant = fence_constant(scores)
    phi = aggregated(scores, scope, how)
    layer = int(_tukey.choose(phi.sum(0), constant))
    shares = _tukey.stability(phi, constant, draws, seed)
    return Choice(f"lga ({scope}, {how})", (layer,), shares)


def fence_constant(scores: LayerScores) -> float:
    """Tukey's constant of these facts, where nobody says another."""
    return 0.5 if {"factual"}.isdisjoint(scores.kinds) else 1.0


def aggregated(
    scores: LayerScores, scope: Scope, how: Aggregation
) -> Float[np.ndarray, "request layer"]:
    """What is summed over requests: φ, |φ|, or the cosine of the two gradients."""
    phi = scores.per_request(scope)
    if how == "absolute":
        return np.abs(phi)
    if how == "cosine":
        names = scores.parameters(scope)
        norms = [
            np.sum([part[n] for n in names], 0) for part in (scores.norm2_old, scores.norm2_new)
        ]
        return phi / np.sqrt(norms[0] * norms[1])
    return phi


def verified_shares(
    trial: Trial,
    selector: lga_verified.Selector,
    scores: LayerScores,
    ranking: LayerRanking,
    draws: int,
) -> Float[np.ndarray, " layer"]:
    """What lga_verified would choose on resamples, read from a sweep without contexts."""
    run = trial.part(trial.split.proxy, "bare", contexts=())
    for start in run.missing():
        run.add(start, run.at(start))
    swept = run.result()
    missing = np.full_like(swept.acc["rewrite"], np.nan)
    table = np.stack([swept.acc.get(name, missing) for name in statistics.SCORE])
    place = {case_id: i for i, case_id in enumerate(swept.case_ids)}
    rows = np.array([place[case_id] for case_id in scores.case_ids])
    random = np.random.default_rng(trial.setting.seed)
    plain = lga.Selector(tukey=selector.tukey, scope=selector.scope, bootstrap=0)
    shares = np.zeros(trial.model.layers)
    for _ in range(draws):
        drawn = random.integers(len(rows), size=len(rows))
        ranked = plain.aggregate(resampled(scores, drawn))
        facts = rows[drawn][: selector.facts]
        order, _ = halve(
            lga_verified.candidates(ranked, selector.k, selector.margin),
            len(facts),
            ranking.provenance["budget"],
            lambda layers, at, facts=facts: {
                layer: table[:, facts[at.start : at.stop], layer] for layer in layers
            },
        )
        shares[order[0]] += 1 / draws
    return shares


def resampled(scores: LayerScores, drawn: Int[np.ndarray, " draw"]) -> LayerScores:
    """Scores of these requests, each as often as it is there."""
    tables = ("dot", "norm2_old", "norm2_new", "abs_new", "per_expert")
    columns = ("loss_old", "loss_new", "known", "says_new")
    return replace(
        scores,
        case_ids=tuple(scores.case_ids[i] for i in drawn),
        **{n: {key: v[drawn] for key, v in getattr(scores, n).items()} for n in tables},
        **{n: getattr(scores, n)[drawn] for n in columns},
    )
