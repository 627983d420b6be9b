"""Golden layers: one layer for all facts against the best of each; proxy against test facts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lga_fast.reports import figures
from lga_fast.reports.figures import Series
from lga_fast.reports.table import Table
from lga_fast.studies import _golden_layers, _paper
from lga_fast.studies._experiment import Experiment
from lga_fast.studies._report import Picture, Report
from lga_fast.studies._trials import METRICS, Setting, Trial, by_model, run_sweeps

_BY = "rewrite"  # golden layers are chosen by it, as in arXiv 2602.20207
_SOURCES = {"test": "golden layer of test facts", "proxy": "golden layer of proxy facts"}


@dataclass(frozen=True)
class Study(Experiment):
    """arXiv 2602.20207 §4 and appendices B to D: Table 1, Tables 3 to 8, curves and heat maps."""

    packages: ClassVar[tuple[str, ...]] = (*Experiment.packages, "scipy")

    def run(self, setting: Setting) -> Report:
        """Make missing sweeps, and reduce them."""
        trials = run_sweeps(setting)
        results = {trial.name: reduce(trial) for trial in trials}
        unions = _unions(trials)
        return Report(
            study=self.name,
            title="Is one layer for all facts as good as the best layer of each?",
            text=_text(setting, results),
            tables=(_existence(results), _by_value(results)),
            pictures=(
                *(_curves(i, name, result) for i, (name, result) in enumerate(results.items())),
                _existence_figure(results),
                *(_heat(i, name, union) for i, (name, union) in enumerate(unions.items())),
            ),
            data={"trials": results, "unions": unions},
            provenance=setting.provenance(),
        )


def reduce(trial: Trial) -> dict[str, Any]:
    """All results of a trial."""
    sweep, (proxy, test) = trial.sweep(), trial.parts()
    measured = [_golden_layers.headlines(part.acc, trial.setting.metrics) for part in (proxy, test)]
    names = [name for name in measured[1] if name in measured[0]]
    by_value = _golden_layers.by_value(proxy, test, [*names, "combined"])
    golden = {part: layers[0] for part, layers in by_value[_BY]["golden"].items()}
    return trial.provenance() | {
        "layers": list(test.layers),
        "before": {name: float(np.nanmean(test.before[name])) for name in names},
        "values": by_value,
        "in_one_part_only": sorted(set(measured[0]) ^ set(measured[1])),
        "existence": _golden_layers.existence(test.values(_BY), test.layers, golden),
        "seconds_sweeping": sweep.seconds(),
        "runs": sweep.provenance["runs"],
        "editor_notes": sweep.provenance["notes"],
        "paper": _paper.rows_of(trial),
    }


def _unions(trials: Sequence[Trial]) -> dict[str, Any]:
    """By model and editor."""
    return {
        name: _golden_layers.union({data: trial.parts() for data, trial in few.items()}, _BY)
        for name, few in by_model(trials).items()
    }


def _text(setting: Setting, results: dict[str, Any]) -> tuple[str, ...]:
    summaries = []
    for name, result in results.items():
        existence = result["existence"]
        golden, proxy = existence["test"], existence["proxy"]
        summaries.append(
            f"{name}: every fact at the layer that is best for it reaches a rewrite accuracy of "
            f"{existence['best_of_each']['mean']:.3f}; one layer for all, {golden['layer']}, "
            f"{golden['mean']:.3f} ({_verdict(golden['tests']['independent'])}). Proxy facts alone "
            f"choose layer {proxy['layer']}, which reaches {proxy['mean']:.3f} on the test facts."
        )
        summaries += [
            f"{name} in the paper (Table 1): {row['best_of_each']:.3f} and {row['golden']:.3f} "
            f"({_verdict(_paper.t_test(row).to_json())})."
            for row in _of_table_1(result)
        ]
        if result["in_one_part_only"]:
            summaries.append(
                f"{name}: left out, because proxy or test facts have nothing to measure it with: "
                f"{', '.join(result['in_one_part_only'])}."
            )
    return (
        f"{setting.proxy} proxy and {setting.test} test facts, drawn with seed {setting.seed}, "
        "each edited alone at every layer. The golden layer is that of the largest mean rewrite "
        "accuracy, of equal ones the lowest.",
        *summaries,
    )


def _of_table_1(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["paper"] if row["table"] == 1]


def _verdict(test: dict[str, Any]) -> str:
    if np.isnan(test["p"]):
        return "no t-test: neither varies over the facts"
    word = "significantly less" if test["significant"] else "not significantly less"
    return f"{word} at α = 0.05 in the t-test for independent samples, p = {test['p']:.2g}"


def _existence(results: dict[str, Any]) -> Table:
    rows = []
    for name, result in results.items():
        best = result["existence"]["best_of_each"]
        for source, words in _SOURCES.items():
            golden = result["existence"][source]
            tests = [golden["tests"][kind] for kind in ("independent", "paired")]
            rows.append(
                (
                    f"{name}: {words}",
                    f"{best['mean']:.4f} ± {best['sd']:.4f}",
                    str(golden["layer"]),
                    f"{golden['mean']:.4f} ± {golden['sd']:.4f}",
                    *map(_p, tests),
                )
            )
        rows += [
            (
                f"{name}, the paper's Table 1: {_SOURCES['test']}",
                f"{row['best_of_each']:.4f} ± {row['best_of_each_sd']:.4f}",
                "",
                f"{row['golden']:.4f} ± {row['golden_sd']:.4f}",
                _p(_paper.t_test(row).to_json()),
                "",
            )
            for row in _of_table_1(result)
        ]
    return Table(
        "Rewrite accuracy of one layer for all test facts",
        ("", "best of each", "layer", "this layer", "p, independent", "p, paired"),
        tuple(rows),
        "Means ± standard deviations over test facts (n - 1). Two-sided t-tests of the best layer "
        "of each fact against one layer for all: independent samples of equal variance, as the "
        "paper tests, and paired, as the same facts allow; in brackets whether significant at "
        "α = 0.05. The best of each is chosen on the very facts it is measured on. The "
        "paper's p is computed from its means and standard deviations.",
    )


def _p(test: dict[str, Any]) -> str:
    if math.isnan(test["p"]):
        return "–"  # nothing to test: all differences are the same
    return f"{test['p']:.3g} ({'yes' if test['significant'] else 'no'})"


def _by_value(results: dict[str, Any]) -> Table:
    rows = []
    for name, result in results.items():
        for metric, values in result["values"].items():
            before = f"{result['before'][metric]:.4f}" if metric in result["before"] else ""
            layers = [", ".join(map(str, values["golden"][part])) for part in ("test", "proxy")]
            rows.append(_golden_row(f"{name}: {metric}", before, layers, values["on_test"]))
            rows += [
                _golden_row(
                    f"{name}, the paper's Table {row['table']}: {metric}",
                    "",
                    [str(row["test_layer"]), str(row["proxy_layer"])],
                    row,
                )
                for row in result["paper"]
                if row.get("metric") == metric
            ]
    return Table(
        "Golden layers by every value, of test and of proxy facts",
        ("", "unedited", "test: layer", "value", "proxy: layer", "value on test", "lost"),
        tuple(rows),
        "All layers that share the largest mean are named; values are of the first. Combined: each "
        "fact's mean of rewrite, rephrase and locality.",
    )


def _golden_row(
    name: str, before: str, layers: Sequence[str], on_test: dict[str, Any]
) -> tuple[str, ...]:
    test, proxy = on_test["test"], on_test["proxy"]
    values = [f"{value:.4f}" for value in (test, proxy, test - proxy)]
    return (name, before, layers[0], values[0], layers[1], *values[1:])


def _curves(number: int, name: str, result: dict[str, Any]) -> Picture:
    series = [
        Series(metric, test["mean"], test["mean"] - test["sem"], test["mean"] + test["sem"])
        for metric, test in ((m, v["test"]) for m, v in result["values"].items() if m != "combined")
    ]
    golden = result["values"][_BY]["golden"]
    marks = {f"golden, {part}": layers[0] for part, layers in golden.items()}
    facts = len(result["test_indices"])
    unit = "share of answer tokens" if {s.name for s in series} <= set(METRICS) else "0 to 1"
    figure = figures.curves(
        f"{name}: {result['editor']}, {facts} test facts",
        result["layers"],
        series,
        f"mean over facts [{unit}]",
        marks,
    )
    caption = f"{name}: what an edit does, by layer. Bars are standard errors over test facts."
    return Picture(f"layers-{number}", figure, caption)


def _existence_figure(results: dict[str, Any]) -> Picture:
    kinds = {"best_of_each": "best layer of each fact", **_SOURCES}
    series = []
    for kind, words in kinds.items():
        mean = np.array([result["existence"][kind]["mean"] for result in results.values()])
        error = np.array([result["existence"][kind]["sem"] for result in results.values()])
        series.append(Series(words, mean, mean - error, mean + error))
    figure = figures.intervals(
        "One layer for all facts, or the best of each",
        list(results),
        series,
        "rewrite accuracy on test facts [share of answer tokens]",
    )
    return Picture("existence", figure, "Means with standard errors over test facts.")


def _heat(number: int, name: str, result: dict[str, Any]) -> Picture:
    rows = list(result["distance"])
    figure = figures.heat(
        f"{name}: layers against the golden ones",
        rows,
        result["layers"],
        np.array(list(result["distance"].values())),
        "rewrite accuracy below the row's best",
        [(y, layer) for y, row in enumerate(rows) for layer in result["golden"][row]],
        result["golden_union"],
    )
    caption = (
        f"{name}: how far each layer's mean rewrite accuracy lies below the best of its row. "
        "★ golden layers of the row; framed: of all proxy facts together."
    )
    return Picture(f"heat-{number}", figure, caption)
