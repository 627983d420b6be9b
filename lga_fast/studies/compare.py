"""Selectors compared by regret: how much worse their layers edit than the golden one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lga_fast.options import option
from lga_fast.reports import figures
from lga_fast.reports.figures import Series
from lga_fast.reports.table import Table
from lga_fast.selectors import Choice
from lga_fast.studies import _golden_layers, _paper
from lga_fast.studies._choices import choices
from lga_fast.studies._experiment import SelectorExperiment
from lga_fast.studies._report import Picture, Report, interval, layers
from lga_fast.studies._trials import Setting, Trial, run_sweeps
from lga_fast.sweep import statistics

_REGRETS = ("rewrite", "combined")


@dataclass(frozen=True)
class Study(SelectorExperiment):
    """Selection regret of every selector on every model, data set and editor."""

    draws: int = option(
        2000, "Bootstrap resamples of the test facts, for confidence intervals.", min=1
    )
    proxy_draws: int = option(200, "Resamples of the proxy facts that layers are chosen on.", min=1)

    def run(self, setting: Setting) -> Report:
        """Make missing sweeps, let every selector choose, and compare."""
        results, summaries = {}, []
        for trial in run_sweeps(setting):
            chosen = choices(trial, trial.parts()[0], self.compared, self.proxy_draws)
            result = results[trial.name] = self._compare(trial, chosen)
            summaries.append(_summary(trial.name, result, chosen))
        return Report(
            study=self.name,
            title="How much is lost by editing at the layer that a selector chooses?",
            text=(_method(setting, self), *summaries),
            tables=tuple(_table(name, result) for name, result in results.items()),
            pictures=tuple(
                picture
                for i, (name, result) in enumerate(results.items())
                for picture in (_regrets(i, name, result), _shares(i, name, result))
                if picture
            ),
            data={"trials": results},
            provenance=setting.provenance() | vars(self),
        )

    def _compare(self, trial: Trial, chosen: Sequence[Choice]) -> dict[str, Any]:
        """Every choice with its values and regrets, by its name."""
        _, test = trial.parts()
        names = _golden_layers.headlines(test.acc, trial.setting.metrics)
        means = {n: statistics.mean(_golden_layers.value(test, n)) for n in (*names, "combined")}
        golden = {n: _golden_layers.best(means[n], test.layers) for n in means}
        counts = statistics.resamples(len(test.case_ids), self.draws, trial.setting.seed)
        drawn = {n: statistics.means(_golden_layers.value(test, n), counts) for n in _REGRETS}
        rows = {}
        for choice in chosen:
            places = [test.layers.index(layer) for layer in choice.layers]
            rows[choice.name] = {
                "layers": choice.layers,
                "values": {name: float(mean[places].mean()) for name, mean in means.items()},
                "regret": {n: statistics.regret(means[n], drawn[n], places) for n in _REGRETS},
                "resampled": _resampled(choice, means),
                "notes": choice.notes,
            }
        return trial.provenance() | {
            "layers": list(test.layers),
            "golden": golden,
            "golden_values": {name: float(np.nanmax(mean)) for name, mean in means.items()},
            "choices": rows,
            "paper": [row for row in _paper.rows_of(trial) if row["table"] in _paper.SELECTORS],
        }


def _resampled(choice: Choice, means: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """What a choice loses on the test facts if its proxy facts are resampled."""
    if choice.shares is None:
        return None
    shares = choice.shares
    lost = {name: means[name].max() - means[name] for name in _REGRETS}
    return {
        "shares": shares,
        "last_layer": float(shares[-1]),
        "mean_regret": {name: float(shares @ values) for name, values in lost.items()},
        "worst_regret": {name: float(values[shares > 0].max()) for name, values in lost.items()},
    }


def _method(setting: Setting, study: Study) -> str:
    return (
        f"Layers are chosen on {setting.proxy} proxy facts. Regret is how much better the golden "
        f"layer of {setting.test} other facts, the best one in hindsight, does on these; "
        f"intervals hold 95% of {study.draws} bootstrap resamples of the test facts. Combined is "
        "each fact's mean of rewrite, rephrase and locality."
    )


def _summary(name: str, result: dict[str, Any], chosen: Sequence[Choice]) -> str:
    """Golden layers, and the regret of every choice but variants."""
    golden, rows = result["golden"], result["choices"]
    regrets = ", ".join(
        f"{choice.summary_name} {rows[choice.name]['regret']['rewrite']['value']:.3f}"
        for choice in chosen
        if choice.summary_name
    )
    paper = ", ".join(
        f"{row['selector']} {row['regret']:.3f} (Table {row['table']})"
        for row in result["paper"]
        if row["regret"] is not None
    )
    return (
        f"{name}: the golden layer of the test facts is {_first(golden['rewrite'])} with a "
        f"rewrite accuracy of {result['golden_values']['rewrite']:.3f}; by the combined score it "
        f"is {_first(golden['combined'])}. Regret in rewrite accuracy: {regrets}."
        + (f" In the paper: {paper}." if paper else "")
    )


def _first(golden: list[int]) -> str:
    """The golden layer, and how many others are as good."""
    others = len(golden) - 1
    return f"{golden[0]} ({others} others are as good)" if others else f"{golden[0]}"


def _table(name: str, result: dict[str, Any]) -> Table:
    values = [key for key in result["golden_values"] if key != "combined"]
    rows = []
    for choice, row in result["choices"].items():
        again = row["resampled"]
        rows.append(
            (
                choice,
                layers(row["layers"]),
                *(f"{row['values'][key]:.3f}" for key in values),
                *(interval(row["regret"][key]) for key in _REGRETS),
                *((f"{again['mean_regret'][key]:.3f}" if again else "") for key in _REGRETS),
                f"{again['worst_regret']['rewrite']:.3f}" if again else "",
                f"{again['last_layer']:.0%}" if again else "",
            )
        )
    rows += [
        (
            f"{row['selector']} in the paper's Table {row['table']}",
            "",
            *("" if row.get(key) is None else f"{row[key]:.3f}" for key in (*values, "regret")),
            *[""] * (2 * len(_REGRETS) + 1),
        )
        for row in result["paper"]
    ]
    regrets = [f"regret, {key}" for key in _REGRETS]
    return Table(
        f"{name}, {result['editor']}",
        (
            "selector",
            "layer",
            *values,
            *regrets,
            *(f"resampled {text}" for text in regrets),
            "worst resampled, rewrite",
            "last layer",
        ),
        tuple(rows),
        "Means over test facts at the chosen layer. Resampled: mean and worst regret on the test "
        "facts over resamples of the proxy facts, and how many of them choose the last layer. Of "
        "several layers the mean counts. Brute force chooses on the proxy facts. LGA as in the "
        "paper is mlp_all, signed; absolute sums |φ|, cosine the cosines of the two gradients. "
        "The paper's regret is measured from its Table 3, on its own test facts.",
    )


def _regrets(number: int, name: str, result: dict[str, Any]) -> Picture:
    rows, series = result["choices"], []
    for key in _REGRETS:
        regrets = [row["regret"][key] for row in rows.values()]
        ends = (np.array([regret[end] for regret in regrets]) for end in ("value", "low", "high"))
        series.append(Series(key, *ends))
    figure = figures.intervals(
        f"{name}: selectors and the layers they choose",
        [f"{choice}: {layers(row['layers'])}" for choice, row in rows.items()],
        series,
        "regret on test facts [share of answer tokens]",
    )
    caption = f"{name}: regret with 95% bootstrap intervals over the test facts; 0 is the best."
    return Picture(f"regret-{number}", figure, caption)


def _shares(number: int, name: str, result: dict[str, Any]) -> Picture | None:
    rows = {key: row for key, row in result["choices"].items() if row["resampled"]}
    if not rows:
        return None
    figure = figures.heat(
        f"{name}: layers chosen on resampled proxy facts",
        list(rows),
        result["layers"],
        np.array([row["resampled"]["shares"] for row in rows.values()]),
        "share of resamples",
        [(y, layer) for y, row in enumerate(rows.values()) for layer in row["layers"]],
        result["golden"]["rewrite"],
    )
    caption = (
        f"{name}: how often each layer is chosen if the proxy facts are resampled. ★ the choice on "
        "all of them; framed: golden layers of the test facts by rewrite accuracy."
    )
    return Picture(f"shares-{number}", figure, caption)
