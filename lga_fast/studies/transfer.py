"""Whether a layer that one data set chose serves another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lga_fast.layer_scores import LayerScores
from lga_fast.options import option
from lga_fast.records import EditKind
from lga_fast.reports import figures
from lga_fast.reports.table import Table
from lga_fast.scoring import score_layers
from lga_fast.selectors import brute_force, lga
from lga_fast.studies import _golden_layers
from lga_fast.studies._experiment import Experiment
from lga_fast.studies._groups import data_sets
from lga_fast.studies._report import Picture, Report, interval
from lga_fast.studies._trials import Setting, Trial, by_model, run_sweeps
from lga_fast.sweep import statistics
from lga_fast.sweep.result import Sweep

_WORDS = {"rewrite": "rewrite accuracy", "combined": "the combined score"}
_UNION = "all together"
_MACRO = "mean over data sets"  # of the same facts; large data sets count no more than small ones


@dataclass(frozen=True)
class Study(Experiment):
    """Regret on every data set's test facts of layers chosen on every data set's proxy facts."""

    draws: int = option(
        2000, "Bootstrap resamples of the test facts, for confidence intervals.", min=1
    )

    def run(self, setting: Setting) -> Report:
        """Make missing sweeps, let brute force and lga choose, and compare."""
        parts = data_sets(setting)
        results = {}
        for name, trials in by_model(run_sweeps(parts)).items():
            sweeps = {data: trial.parts() for data, trial in trials.items()}
            scores = {
                data: score_layers(trial.model, trial.split.proxy) for data, trial in trials.items()
            }
            about = {data: trial.provenance() for data, trial in trials.items()}
            regrets = transfer(sweeps, scores, self.draws, setting.seed)
            results[name] = {"trials": about, "shared": _shared(trials)} | regrets
        return Report(
            study=self.name,
            title="Does a layer that one data set chose serve another?",
            text=_text(setting, parts, self, results),
            tables=tuple(
                _table(name, result, value) for name, result in results.items() for value in _WORDS
            ),
            pictures=tuple(_heat(i, *item) for i, item in enumerate(results.items())),
            data={"models": results},
            provenance=parts.provenance() | vars(self),
        )


def transfer(
    parts: Mapping[str, tuple[Sweep, Sweep]],
    scores: Mapping[str, LayerScores],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """The layers chosen on proxy facts, and their regret on test facts.

    Args:
        parts: by data set, the sweeps of proxy and test facts.
        scores: by data set, of its proxy facts.
        draws: resamples of the test facts.
        seed: of the resamples.
    """
    layers = next(iter(parts.values()))[0].layers
    chosen = {
        brute_force.Selector().name: by_brute_force({d: proxy for d, (proxy, _) in parts.items()}),
        lga.Selector().name: by_lga(scores),
    }
    regret: dict[str, Any] = {value: {} for value in _WORDS}
    for data, (_, test) in parts.items():
        counts = statistics.resamples(len(test.case_ids), draws, seed)
        for value in _WORDS:
            values = _golden_layers.value(test, value)
            mean, drawn = statistics.mean(values), statistics.means(values, counts)
            for selector, by_source in chosen.items():
                for source, layer in by_source.items():
                    row = regret[value].setdefault(selector, {}).setdefault(source, {})
                    row[data] = statistics.regret(mean, drawn, [layers.index(layer)])
            row = regret[value].setdefault("any", {})
            row[data] = statistics.regret(mean, drawn, range(len(layers)))
    golden = {
        data: _golden_layers.best(statistics.mean(test.values("rewrite")), layers)
        for data, (_, test) in parts.items()
    }
    return {"layers": list(layers), "chosen": chosen, "golden": golden, "regret": regret}


def by_brute_force(proxies: Mapping[str, Sweep]) -> dict[str, int]:
    """The best layer of each data set's proxy facts, of all of them, and of the data sets' means.

    As in the selector of that name, ties are broken by rephrase, then by locality.
    """
    layers = next(iter(proxies.values())).layers
    names = [n for n in statistics.SCORE if any(n in proxy.acc for proxy in proxies.values())]
    values = {
        data: [proxy.acc.get(n, np.full_like(proxy.acc["rewrite"], np.nan)) for n in names]
        for data, proxy in proxies.items()
    }
    means = {data: [statistics.mean(v) for v in columns] for data, columns in values.items()}
    columns = list(zip(*values.values(), strict=True))
    means[_UNION] = [statistics.mean(np.concatenate(column)) for column in columns]
    columns = list(zip(*(means[data] for data in proxies), strict=True))
    means[_MACRO] = [statistics.mean(np.stack(column)) for column in columns]
    return {source: layers[statistics.order(columns)[0]] for source, columns in means.items()}


def by_lga(scores: Mapping[str, LayerScores]) -> dict[str, int]:
    """What lga chooses on each data set's proxy facts, on all, and by the data sets' means."""
    selector = lga.Selector(bootstrap=0)
    chosen = {data: selector.aggregate(part).layer for data, part in scores.items()}
    phi = [part.per_request(selector.scope) for part in scores.values()]
    kinds: list[EditKind] = [kind for part in scores.values() for kind in part.kinds]
    totals = {
        _UNION: np.concatenate(phi).sum(0),
        _MACRO: np.mean([values.mean(0) for values in phi], axis=0),
    }
    return chosen | {name: selector.best_layer(total, kinds) for name, total in totals.items()}


def _shared(trials: Mapping[str, Trial]) -> int:
    """Proxy facts of one data set that are test facts of another."""
    test = {data: {fact.prompt for fact in trial.split.test} for data, trial in trials.items()}
    return sum(
        fact.prompt in prompts
        for source, trial in trials.items()
        for target, prompts in test.items()
        for fact in trial.split.proxy
        if target != source
    )


def _text(
    setting: Setting, parts: Setting, study: Study, results: dict[str, Any]
) -> tuple[str, ...]:
    summaries = []
    if parts is not setting:
        ((name, edits),) = setting.data.items()
        sizes = {kind: len(group) for kind, group in parts.data.items()}
        rest = len(edits) - sum(sizes.values())
        summaries.append(
            f"There is one data set only, {name}. Its facts are grouped by the kind of their "
            "answers, and each group is taken for a data set: "
            f"{', '.join(f'{kind} {size} facts' for kind, size in sizes.items())}."
            + (f" {rest} facts are in none: too few, or no subject in the prompt." if rest else "")
        )
    for name, result in results.items():
        union, macro = (
            " and ".join(f"{layers[row]} ({who})" for who, layers in result["chosen"].items())
            for row in (_UNION, _MACRO)
        )
        own, other, any_layer = _means(result)
        summaries.append(
            f"{name}: mean regret in rewrite accuracy where proxy and test facts are of the same "
            f"data set: {own}; of different ones: {other}; of a layer drawn at random: "
            f"{any_layer:.3f}. All proxy facts together choose layer {union}; the mean over data "
            f"sets, where each counts the same, layer {macro}."
        )
        if result["shared"]:
            summaries.append(
                f"{name}: {result['shared']} proxy facts are test facts of another data set too."
            )
    return (
        f"A layer is chosen on {setting.proxy} proxy facts of one data set (row) and judged on "
        f"{setting.test} test facts of every one (column). Regret is what the golden layer of the "
        "test facts, the best one there in hindsight, is better by on these; intervals hold 95% of "
        f"{study.draws} bootstrap resamples of the test facts. Combined is each fact's mean of "
        "rewrite, rephrase and locality.",
        *summaries,
    )


def _means(result: dict[str, Any]) -> tuple[str, str, float]:
    """Mean regret in rewrite accuracy on the own and on other data sets, and of any layer."""
    regret, data = result["regret"]["rewrite"], list(result["golden"])
    by_same: dict[bool, list[str]] = {True: [], False: []}
    for selector in result["chosen"]:
        for same, texts in by_same.items():
            values = [
                regret[selector][source][target]["value"]
                for source in data
                for target in data
                if (source == target) == same
            ]
            texts.append(f"{np.mean(values):.3f} ({selector})")
    any_layer = float(np.mean([row["value"] for row in regret["any"].values()]))
    return ", ".join(by_same[True]), ", ".join(by_same[False]), any_layer


def _rows(result: dict[str, Any], value: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Who chose, on what, which layer, and its regret by data set."""
    regret = result["regret"][value]
    rows = [
        (selector, source, str(layer), regret[selector][source])
        for selector, by_source in result["chosen"].items()
        for source, layer in by_source.items()
        if source != _MACRO
    ]
    return [*rows, ("any layer", "", "mean of all", regret["any"])]


def _table(name: str, result: dict[str, Any], value: str) -> Table:
    data = list(result["golden"])
    rows = (
        (f"{who} on {source}" if source else who, layer, *(interval(row[d]) for d in data))
        for who, source, layer, row in _rows(result, value)
    )
    return Table(
        f"{name}: regret in {_WORDS[value]}",
        ("layer chosen by", "layer", *(f"on {target}" for target in data)),
        tuple(rows),
        "Rows: who chose, on the proxy facts of which data set. Columns: the test facts of which "
        "data set.",
    )


def _heat(number: int, name: str, result: dict[str, Any]) -> Picture:
    data, rows = list(result["golden"]), _rows(result, "rewrite")
    figure = figures.heat(
        f"{name}: layers chosen on one data set, used on another",
        [
            f"{who} on {source}: layer {layer}" if source else f"{who}: {layer}"
            for who, source, layer, _ in rows
        ],
        data,
        np.array([[row[target]["value"] for target in data] for *_, row in rows]),
        "regret in rewrite accuracy",
        [(y, source) for y, (_, source, *_) in enumerate(rows) if source in data],
        xlabel="test facts of",
    )
    caption = (
        f"{name}: regret in rewrite accuracy [share of answer tokens] of the layer of each row on "
        "the test facts of each column. ★ proxy and test facts of the same data set."
    )
    return Picture(f"regret-{number}", figure, caption)
