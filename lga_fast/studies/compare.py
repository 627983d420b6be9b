"""Selectors compared by regret: how much worse their layers edit than the golden one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lga_fast.reports import figures
from lga_fast.reports.figures import Series
from lga_fast.reports.html import Table
from lga_fast.studies import _golden_layers
from lga_fast.studies._choices import Choice, choices
from lga_fast.studies._report import Picture, Report, interval, layers
from lga_fast.studies._trials import Setting, Trial, run
from lga_fast.sweep import statistics

_REGRETS = ("rewrite", "combined")
_LGA = "lga (mlp_all, signed)"  # as in the paper


@dataclass(frozen=True)
class Study:
    """Selection regret of every selector on every model, data set and editor."""

    draws: int = field(
        default=2000, metadata={"help": "Bootstrap resamples of the test facts, for intervals."}
    )
    proxy_draws: int = field(
        default=200, metadata={"help": "Resamples of the proxy facts that layers are chosen on."}
    )

    def run(self, setting: Setting) -> Report:
        """Sweep what is missing, let every selector choose, and compare."""
        found = {trial.name: self._compare(trial) for trial in run(setting)}
        return Report(
            study="compare",
            title="How much is lost by editing at the layer that a selector chooses?",
            text=_text(setting, self, found),
            tables=tuple(_table(name, one) for name, one in found.items()),
            pictures=tuple(
                picture
                for i, (name, one) in enumerate(found.items())
                for picture in (_regrets(i, name, one), _shares(i, name, one))
                if picture
            ),
            data={"trials": found},
            made=setting.made() | {"draws": self.draws, "proxy_draws": self.proxy_draws},
        )

    def _compare(self, trial: Trial) -> dict[str, Any]:
        """Every choice with its values and regrets, by its name."""
        proxy, test = trial.parts()
        names = _golden_layers.headlines(test.acc, trial.setting.metrics)
        means = {n: statistics.mean(_golden_layers.value(test, n)) for n in (*names, "combined")}
        golden = {n: _golden_layers.best(means[n], test.layers) for n in means}
        counts = statistics.resamples(len(test.case_ids), self.draws, trial.setting.seed)
        drawn = {n: statistics.means(_golden_layers.value(test, n), counts) for n in _REGRETS}
        rows = {}
        for one in choices(trial, proxy, self.proxy_draws):
            places = [test.layers.index(layer) for layer in one.layers]
            rows[one.name] = {
                "layers": one.layers,
                "values": {name: float(mean[places].mean()) for name, mean in means.items()},
                "regret": {n: statistics.regret(means[n], drawn[n], places) for n in _REGRETS},
                "resampled": _resampled(one, means),
                "notes": one.notes,
            }
        return trial.provenance() | {
            "layers": list(test.layers),
            "golden": golden,
            "golden_values": {name: float(np.nanmax(mean)) for name, mean in means.items()},
            "choices": rows,
        }


def _resampled(one: Choice, means: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """What a choice loses on the test facts if its proxy facts are resampled."""
    if one.shares is None:
        return None
    lost = {name: means[name].max() - means[name] for name in _REGRETS}
    return {
        "shares": one.shares,
        "last_layer": float(one.shares[-1]),
        "mean_regret": {name: float(one.shares @ values) for name, values in lost.items()},
        "worst_regret": {n: float(values[one.shares > 0].max()) for n, values in lost.items()},
    }


def _text(setting: Setting, study: Study, found: dict[str, Any]) -> tuple[str, ...]:
    said = [
        f"{name}: the golden layer of the test facts is {_first(one['golden']['rewrite'])} with a "
        f"rewrite accuracy of {one['golden_values']['rewrite']:.3f}; by the combined score it is "
        f"{_first(one['golden']['combined'])}. Regret in rewrite accuracy: {_regrets_of(one)}."
        for name, one in found.items()
    ]
    return (
        f"Layers are chosen on {setting.proxy} proxy facts. Regret is what the golden layer of "
        f"{setting.test} other facts, the best one there in hindsight, is better by on these; "
        f"intervals hold 95% of {study.draws} bootstrap resamples of the test facts. Combined is "
        "each fact's mean of rewrite, rephrase and locality.",
        *said,
    )


def _first(golden: list[int]) -> str:
    """The golden layer, and how many others are as good."""
    others = len(golden) - 1
    return f"{golden[0]} ({others} others are as good)" if others else f"{golden[0]}"


def _regrets_of(one: dict[str, Any]) -> str:
    """Every choice's regret, without the variants of lga that the paper does not have."""
    rows = {
        "lga" if choice == _LGA else choice: row
        for choice, row in one["choices"].items()
        if choice == _LGA or not choice.startswith("lga (")
    }
    return ", ".join(
        f"{name} {row['regret']['rewrite']['value']:.3f}" for name, row in rows.items()
    )


def _table(name: str, one: dict[str, Any]) -> Table:
    values = [key for key in one["golden_values"] if key != "combined"]
    rows = []
    for choice, row in one["choices"].items():
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
    regrets = [f"regret, {key}" for key in _REGRETS]
    return Table(
        f"{name}, {one['editor']}",
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
        "paper is mlp_all, signed; absolute sums |φ|, cosine the cosines of the two gradients.",
    )


def _regrets(number: int, name: str, one: dict[str, Any]) -> Picture:
    rows = one["choices"]
    series = []
    for key in _REGRETS:
        found = [row["regret"][key] for row in rows.values()]
        series.append(
            Series(key, *(np.array([f[part] for f in found]) for part in ("value", "low", "high")))
        )
    labels = [f"{choice}: {layers(row['layers'])}" for choice, row in rows.items()]
    figure = figures.intervals(
        f"{name}: selectors and the layers they choose",
        labels,
        series,
        "regret on test facts [share of answer tokens]",
    )
    caption = f"{name}: regret with 95% bootstrap intervals over the test facts; 0 is the best."
    return Picture(f"regret-{number}", figure, caption)


def _shares(number: int, name: str, one: dict[str, Any]) -> Picture | None:
    rows = {key: row for key, row in one["choices"].items() if row["resampled"]}
    if not rows:
        return None
    figure = figures.heat(
        f"{name}: layers chosen on resampled proxy facts",
        list(rows),
        one["layers"],
        np.array([row["resampled"]["shares"] for row in rows.values()]),
        "share of resamples",
        [(y, layer) for y, row in enumerate(rows.values()) for layer in row["layers"]],
        one["golden"]["rewrite"],
    )
    caption = (
        f"{name}: how often each layer is chosen if the proxy facts are resampled. ☆ the choice on "
        "all of them; framed: golden layers of the test facts by rewrite accuracy."
    )
    return Picture(f"shares-{number}", figure, caption)
