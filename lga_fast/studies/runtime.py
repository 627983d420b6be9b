"""What choosing a layer costs: seconds and sequence forwards of every selector."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import lga_fast
from lga_fast import progress, registry
from lga_fast.metrics import choose, measure_cases
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.reports import figures
from lga_fast.reports.figures import Series
from lga_fast.reports.html import Table
from lga_fast.studies import sweep
from lga_fast.studies._report import Picture, Report
from lga_fast.studies._trials import Setting, Trial
from lga_fast.sweep import statistics
from lga_fast.sweep.layer_edits import forwards

_SELECTORS = "lga_fast.selectors"
_BATCHED = "brute_force, facts together"
_ALONE = "brute_force, one fact at a time"
_ALL_TOKENS = "cma, all tokens"
_RATIOS = (_ALONE, _BATCHED, "cma", _ALL_TOKENS)  # of their seconds to lga's


@dataclass(frozen=True)
class Study:
    """Selectors timed on the proxy facts; brute force on some of them, scaled to all."""

    repeats: int = field(
        default=3, metadata={"help": "Timed runs of a selector; the median counts."}
    )
    batched: int = field(
        default=8, metadata={"help": "Facts that brute force is timed on, all of them together."}
    )
    alone: int = field(
        default=1, metadata={"help": "Facts that brute force is timed on, one at a time."}
    )

    def run(self, setting: Setting) -> Report:
        """Time every selector that looks at the facts, in one process."""
        trials = setting.trials()
        total = sum(len(_selections(trial)) + 2 for trial in trials)
        with progress.bar("timing", total) as advance:
            found = {trial.name: self._time(trial, advance) for trial in trials}
        return Report(
            study="runtime",
            title="What does choosing a layer cost?",
            text=_text(setting, self, found),
            tables=tuple(_table(name, one) for name, one in found.items()),
            pictures=tuple(_figure(i, name, one) for i, (name, one) in enumerate(found.items())),
            data={"trials": found},
            made=setting.made() | vars(self),
        )

    def _time(self, trial: Trial, advance: Callable[[int], None]) -> dict[str, Any]:
        facts, rows = trial.split.proxy, {}
        with progress.bar("", 1, show=False):  # bars inside would cost time
            for name, call in _selections(trial).items():
                repeats = 1 if name == "lga_verified" else self.repeats
                rows[name] = _timed(call, repeats, trial.model.device)
                advance(1)
            options = _editing(trial)
            for name, brute, count in (
                (_BATCHED, _batched, self.batched),
                (_ALONE, _alone, self.alone),
            ):
                rows[name] = _scaled(brute(trial, facts[:count], options), facts[:count], facts)
                advance(1)
        rows = dict(sorted(rows.items(), key=lambda item: item[1]["seconds"]))
        seconds = {name: row["seconds"] for name, row in rows.items()}
        return trial.provenance() | {
            "facts": len(facts),
            "selectors": rows,
            "times_lga": {name: seconds[name] / seconds["lga"] for name in _RATIOS},
        }


def _selections(trial: Trial) -> dict[str, Callable[[], LayerRanking]]:
    """Choosing by every selector but brute force and those that do not look at the facts."""
    names = set(registry.names(_SELECTORS)) - {"brute_force", "fixed", "random_layer"}
    found = {name: _selection(trial, name) for name in sorted(names)}
    return found | {_ALL_TOKENS: _selection(trial, "cma", token_range="all")}


def _selection(trial: Trial, name: str, **options: Any) -> Callable[[], LayerRanking]:
    """Choosing by one selector, without the resamples that tell how firm the choice is."""
    known = registry.member(_SELECTORS, name).Selector.__dataclass_fields__
    asked = trial.setting
    about = {"editor": trial.editor, "preset": asked.preset, "config": asked.config}
    about |= {"seed": asked.seed, "bootstrap": 0}
    options |= {key: value for key, value in about.items() if key in known}
    return lambda: lga_fast.select_layer(trial.model, trial.split.proxy, name, **options)


def _timed(call: Callable[[], LayerRanking], repeats: int, device: torch.device) -> dict[str, Any]:
    """Median, least and most seconds of so many runs, after one to warm up."""
    ranking, seconds = call(), []
    for _ in range(repeats):
        started = _now(device)
        ranking = call()
        seconds.append(_now(device) - started)
    made = ranking.provenance
    row = {"seconds": float(np.median(seconds)), "least": min(seconds), "most": max(seconds)}
    row["forwards"] = made.get("sequence_forwards_plain", made["sequence_forwards"])
    row |= {"forwards_run": made["sequence_forwards"], "layer": ranking.layer}
    if made.get("old"):
        row["seconds_old_answers"] = made["seconds_old_answers"]
    return row


def _now(device: torch.device) -> float:
    """The clock, when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _scaled(
    found: tuple[float, int], few: list[EditRequest], facts: list[EditRequest]
) -> dict[str, Any]:
    seconds, count = (value * len(facts) / len(few) for value in found)
    spread = {"seconds": seconds, "least": seconds, "most": seconds}
    return spread | {"forwards": count, "facts_timed": len(few)}


def _editing(trial: Trial) -> dict[str, Any]:
    """Options of edits, with contexts that are sampled now, by an edit that warms up."""
    asked, few = trial.setting, trial.split.proxy[:1]
    options: dict[str, Any] = {"preset": asked.preset, "config": asked.config}
    with _quiet():
        edit = lga_fast.edit(trial.model, few, trial.editor, layer=0, **options)
    return options | {"contexts": edit.provenance["contexts"]}


def _batched(trial: Trial, facts: list[EditRequest], options: dict[str, Any]) -> tuple[float, int]:
    """Seconds and forwards of a sweep."""
    started = _now(trial.model.device)
    made = sweep(trial.model, facts, trial.editor, metrics=statistics.SCORE, **options)
    seconds = _now(trial.model.device) - started
    return seconds, sum(run["forwards"] for run in made.provenance["runs"])


def _alone(trial: Trial, facts: list[EditRequest], options: dict[str, Any]) -> tuple[float, int]:
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
    """Without what editors have to say of a fact."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def _label(name: str, row: dict[str, Any], facts: int) -> str:
    """A row's name, and from how few facts it was scaled."""
    timed = row.get("facts_timed", facts)
    return name if timed == facts else f"{name} (scaled from {timed} of {facts})"


def _text(setting: Setting, study: Study, found: dict[str, Any]) -> tuple[str, ...]:
    said = []
    for name, one in found.items():
        lga, facts = one["selectors"]["lga"], one["facts"]
        others = "; ".join(
            f"{_label(other, one['selectors'][other], facts)} takes {ratio:.1f} times as long"
            for other, ratio in one["times_lga"].items()
        )
        said.append(
            f"{name}: lga chooses in {lga['seconds']:.3g} s, of which it takes "
            f"{lga['seconds_old_answers']:.3g} s to have the model give its old answers; {others}."
        )
    return (
        f"Seconds to choose a layer on {setting.proxy} proxy facts, all measured in one process: "
        f"the median of {study.repeats} runs after one to warm up; of lga_verified one run. Brute "
        "force edits every fact at every layer. It is timed once, on fewer facts where its row "
        "says so, and scaled. One fact at a time means: by this library's editor, the edit "
        "written, measured and undone; its steps run less than a whole forward, as those of other "
        "libraries do not.",
        *said,
    )


def _table(name: str, one: dict[str, Any]) -> Table:
    base, facts = one["selectors"]["lga"], one["facts"]
    rows = tuple(
        (
            _label(key, row, facts),
            f"{row['seconds']:.3g}",
            f"{row['least']:.3g} to {row['most']:.3g}" if row["least"] < row["most"] else "",
            f"{row['seconds'] / base['seconds']:.1f}",
            f"{row['forwards'] / facts:,.1f}",
            f"{row['forwards'] / base['forwards']:,.1f}",
        )
        for key, row in one["selectors"].items()
    )
    run = one["selectors"]["cma"]["forwards_run"] / facts
    return Table(
        f"{name}, {one['editor']}, {facts} proxy facts",
        ("selector", "seconds", "least to most", "times lga's", "forwards per fact", "times lga's"),
        rows,
        "Forwards: sequences through all blocks that a plain form of each method runs, a backward "
        "counted as one. This library restarts those of cma at the first restored layer, which "
        f"leaves {run:,.1f} per fact at the subject's last token, and steps of edits at the edited "
        "layer. Measuring edits is timed, but not counted.",
    )


def _figure(number: int, name: str, one: dict[str, Any]) -> Picture:
    rows, facts = one["selectors"], one["facts"]
    ends = (np.array([row[k] for row in rows.values()]) for k in ("seconds", "least", "most"))
    figure = figures.intervals(
        f"{name}: choosing a layer on {facts} facts",
        [_label(key, row, facts) for key, row in rows.items()],
        [Series("seconds", *ends)],
        "time [s], logarithmic",
        log=True,
    )
    caption = f"{name}: seconds to choose a layer; median, least and most of the runs."
    return Picture(f"seconds-{number}", figure, caption)
