"""What choosing a layer costs: seconds, sequence forwards and edits of every selector."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import lga_fast
from lga_fast import progress
from lga_fast.metrics import choose, measure_cases
from lga_fast.options import option
from lga_fast.records import EditRequest
from lga_fast.reports import figures
from lga_fast.reports.figures import Series
from lga_fast.reports.table import Table
from lga_fast.selectors import DEFAULT, LayerSelector
from lga_fast.studies._experiment import SelectorExperiment
from lga_fast.studies._measured_facts import selector_for
from lga_fast.studies._report import Picture, Report
from lga_fast.studies._trials import Setting, Trial
from lga_fast.sweep import statistics
from lga_fast.sweep.layer_edits import forwards
from lga_fast.sweep.run import sweep

LONG = 10  # seconds of a first run, beside which nothing is left to warm up


@dataclass(frozen=True)
class Study(SelectorExperiment):
    """Selectors timed on the proxy facts; brute force on some of them, scaled to all."""

    repeats: int = option(3, "Timed runs of a selector, of which the median counts.", min=1)
    batched: int = option(8, "Number of facts that brute force is timed on, all together.", min=1)
    alone: int = option(1, "Number of facts that brute force is timed on, one at a time.", min=1)

    def run(self, setting: Setting) -> Report:
        """Time every selector that depends on the facts, in one process."""
        trials = setting.trials()
        total = sum(
            len(self._selections(t)) + 2 * len(_exhaustive(t, self.compared)) for t in trials
        )
        with progress.bar("timing", total) as advance:
            results = {trial.name: self._time(trial, advance) for trial in trials}
        return Report(
            study=self.name,
            title="What does choosing a layer cost?",
            text=(_method(setting, self), *map(_summary, results, results.values())),
            tables=tuple(_table(name, result) for name, result in results.items()),
            pictures=tuple(_figure(i, *item) for i, item in enumerate(results.items())),
            data={"trials": results},
            provenance=setting.provenance() | vars(self),
        )

    def _time(self, trial: Trial, advance: Callable[[int], None]) -> dict[str, Any]:
        facts, rows = trial.split.proxy, {}
        compared: list[str] = []  # rows that the paper compares with LGA
        with progress.bar("", 1, show=False):  # bars inside would cost time
            for name, selector in self._selections(trial).items():
                rows[name] = _timed(selector, trial, self.repeats)
                compared += [name] if selector.timed_in_paper else []
                advance(1)
            options = _editing(trial)
            for name, selector in _exhaustive(trial, self.compared).items():
                for way, measure, count in (
                    ("facts together", _batched, self.batched),
                    ("one fact at a time", _alone, self.alone),
                ):
                    row, timed = f"{name}, {way}", facts[:count]
                    rows[row] = _scaled(measure(trial, timed, options), len(timed), len(facts))
                    rows[row]["edits"] = len(facts) * trial.model.layers
                    compared = [row, *compared] if selector.timed_in_paper else compared
                    advance(1)
        rows = dict(sorted(rows.items(), key=lambda item: item[1]["seconds"]))
        seconds = {name: row["seconds"] for name, row in rows.items()}
        return trial.provenance() | {
            "facts": len(facts),
            "selectors": rows,
            f"times_{DEFAULT}": {name: seconds[name] / seconds[DEFAULT] for name in compared},
        }

    def _selections(self, trial: Trial) -> dict[str, LayerSelector]:
        """Selectors that are timed as they are, and variants of them unless they were named."""
        timed = {n: s for n, s in _selectors(trial, self.compared).items() if s.cost != "sweep"}
        variants = {
            f"{name}, {variant}": selector_for(trial, name, 0, **options)
            for name, selector in timed.items()
            for variant, options in selector.timed_variants.items()
        }
        return timed if self.selectors else timed | variants


def _selectors(trial: Trial, names: Sequence[str]) -> dict[str, LayerSelector]:
    """Those whose choice depends on the facts, without resamples, and the one to compare with."""
    every = {name: selector_for(trial, name, 0) for name in dict.fromkeys((DEFAULT, *names))}
    return {name: selector for name, selector in every.items() if selector.rests_on == "facts"}


def _exhaustive(trial: Trial, names: Sequence[str]) -> dict[str, LayerSelector]:
    """Selectors that take too long to be timed on all facts."""
    return {n: s for n, s in _selectors(trial, names).items() if s.cost == "sweep"}


def _timed(selector: LayerSelector, trial: Trial, repeats: int) -> dict[str, Any]:
    """Median, least and most seconds of so many runs after a first one, or of a long first one."""
    model, facts, seconds = trial.model, trial.split.proxy, list[float]()
    for _ in range(1 + repeats):
        started = _now(model.device)
        ranking = selector.rank(model, facts)
        seconds.append(_now(model.device) - started)
        if seconds[0] > LONG:
            break
    least, median, most = np.quantile(seconds[1:] or seconds, (0, 0.5, 1)).tolist()
    row, costs = {"seconds": median, "least": least, "most": most}, ranking.provenance
    row["forwards"] = costs.get("sequence_forwards_plain", costs["sequence_forwards"])
    row |= {"forwards_run": costs["sequence_forwards"], "edits": costs.get("edits", 0)}
    row["layer"] = ranking.layer
    if costs.get("old"):
        row["seconds_old_answers"] = costs["seconds_old_answers"]
    return row


def _now(device: torch.device) -> float:
    """The time once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _scaled(cost: tuple[float, int], timed: int, facts: int) -> dict[str, Any]:
    """A row for all facts, from the seconds and forwards of those timed."""
    seconds, count = (value * facts / timed for value in cost)
    row = {"forwards": count, "facts_timed": timed}
    return row | dict.fromkeys(("seconds", "least", "most"), seconds)


def _editing(trial: Trial) -> dict[str, Any]:
    """Options of edits, with contexts that are sampled now, by an edit that warms up."""
    options: dict[str, Any] = {"preset": trial.setting.preset, "config": trial.setting.config}
    with _quiet():
        first = trial.split.proxy[:1]
        edit = lga_fast.edit(trial.model, first, trial.editor, layer=0, **options)
    return options | {"contexts": edit.provenance["contexts"]}


def _batched(
    trial: Trial, facts: Sequence[EditRequest], options: Mapping[str, Any]
) -> tuple[float, int]:
    """Seconds and forwards of a sweep."""
    started = _now(trial.model.device)
    swept = sweep(trial.model, facts, trial.editor, metrics=statistics.SCORE, **options)
    seconds = _now(trial.model.device) - started
    return seconds, sum(run["forwards"] for run in swept.provenance["runs"])


def _alone(
    trial: Trial, facts: Sequence[EditRequest], options: Mapping[str, Any]
) -> tuple[float, int]:
    """Seconds of solving, writing, measuring and undoing one edit after another, and forwards."""
    model, metrics, count = trial.model, choose(statistics.SCORE), 0
    started = _now(model.device)
    with _quiet():
        for fact in facts:
            _, before = measure_cases(model, [fact], None, metrics)
            for layer in range(model.layers):
                edit = lga_fast.edit(model, [fact], trial.editor, layer=layer, **options)
                with model.edited(edit):
                    measure_cases(model, [fact], None, metrics, before)
                count += forwards(edit)
    return _now(model.device) - started, count


def _quiet() -> warnings.catch_warnings[None]:
    """Without the editors' warnings about facts."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def _label(name: str, row: dict[str, Any], facts: int) -> str:
    """A row's name, with the number of facts it was scaled from."""
    timed = row.get("facts_timed", facts)
    return f"{name} (scaled from {timed} of {facts})" if timed < facts else name


def _method(setting: Setting, study: Study) -> str:
    return (
        f"Seconds to choose a layer on {setting.proxy} proxy facts: the median of {study.repeats} "
        f"runs after one to warm up, or a first of over {LONG} s. Brute force is timed once, on "
        "fewer facts where its row says so, and scaled. One fact at a time means: by this "
        "library's editor, the edit written, measured and undone, in steps of less than a forward."
    )


def _summary(name: str, result: dict[str, Any]) -> str:
    base, facts = result["selectors"][DEFAULT], result["facts"]
    others = "; ".join(
        f"{_label(other, result['selectors'][other], facts)} takes {ratio:.1f} times as long"
        for other, ratio in result[f"times_{DEFAULT}"].items()
    )
    return (
        f"{name}: {DEFAULT} chooses in {base['seconds']:.3g} s, of which it takes "
        f"{base['seconds_old_answers']:.3g} s to have the model give its old answers; {others}."
    )


def _table(name: str, result: dict[str, Any]) -> Table:
    base, facts = result["selectors"][DEFAULT], result["facts"]
    rows = tuple(
        (
            _label(key, row, facts),
            f"{row['seconds']:.3g}",
            f"{row['least']:.3g} to {row['most']:.3g}" if row["least"] < row["most"] else "",
            f"{row['seconds'] / base['seconds']:.1f}",
            f"{row['forwards'] / facts:,.1f}",
            f"{row['forwards'] / base['forwards']:,.1f}",
            f"{row['edits']:,}",
        )
        for key, row in result["selectors"].items()
    )
    fewer = ", ".join(
        f"{key} {row['forwards_run'] / facts:,.1f}"
        for key, row in result["selectors"].items()
        if row.get("forwards_run", row["forwards"]) < row["forwards"]
    )
    times = f"times {DEFAULT}'s"
    return Table(
        f"{name}, {result['editor']}, {facts} proxy facts",
        ("selector", "seconds", "least to most", times, "forwards per fact", times, "edits made"),
        rows,
        "Forwards: sequences through all blocks that a plain form of each method runs, a backward "
        "counted as one. This library restarts forwards at the first changed layer, which leaves "
        f"per fact: {fewer}; steps of edits restart at the edited layer. Measuring edits is timed, "
        "but not counted.",
    )


def _figure(number: int, name: str, result: dict[str, Any]) -> Picture:
    rows, facts = result["selectors"], result["facts"]
    ends = (np.array([row[k] for row in rows.values()]) for k in ("seconds", "least", "most"))
    labels = [_label(key, row, facts) for key, row in rows.items()]
    title, time_axis = f"{name}: choosing a layer on {facts} facts", "time [s], logarithmic"
    figure = figures.intervals(title, labels, [Series("seconds", *ends)], time_axis, log=True)
    return Picture(f"seconds-{number}", figure, f"{name}: median, least and most of the runs.")
