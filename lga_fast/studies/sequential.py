"""Edits one after another, at the layers that selectors choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

import lga_fast
from lga_fast import progress
from lga_fast.errors import DataError
from lga_fast.evaluation.evaluate import EvalWhen, Mode
from lga_fast.records import EditRequest
from lga_fast.reports import figures
from lga_fast.reports.figures import Series
from lga_fast.reports.html import Table
from lga_fast.studies import _golden_layers
from lga_fast.studies._choices import chosen_layers
from lga_fast.studies._report import Picture, Report, layers
from lga_fast.studies._trials import Setting, Trial, run
from lga_fast.sweep import statistics
from lga_fast.sweep.layer_edits import columns

_GOLDEN = "golden layer of the test facts"
_MODES: dict[Mode, str] = {"sequential": "one after another", "single": "each alone"}
_UNITS = {"rewrite": "share of answer tokens", "overall": "mean of the metrics"}  # drawn

Facts = dict[str, Float[np.ndarray, " fact"]]  # values by name


@dataclass(frozen=True)
class Study:
    """arXiv 2602.20207, appendix C: the same few test facts edited in turn, weights kept."""

    facts: int = field(default=10, metadata={"help": "Test facts that are edited."})
    eval_when: EvalWhen = field(
        default="end",
        metadata={"help": "Measure with all edits in effect, or each right after its own."},
    )

    def run(self, setting: Setting) -> Report:
        """Sweep what is missing, let every selector choose, and edit at these layers."""
        if self.facts > setting.test:
            raise DataError(
                f"sequential: facts={self.facts}: expected at most the {setting.test} test facts; "
                "ask for fewer, or for more test facts"
            )
        found = {trial.name: self._edit(trial) for trial in run(setting)}
        return Report(
            study="sequential",
            title="What is left of edits that others follow, at the layers that selectors choose?",
            text=_text(self, found),
            tables=tuple(_table(name, one) for name, one in found.items()),
            pictures=tuple(
                _figure(i, name, one, value)
                for i, (name, one) in enumerate(found.items())
                for value in _UNITS
            ),
            data={"trials": found},
            made=setting.made() | vars(self),
        )

    def _edit(self, trial: Trial) -> dict[str, Any]:
        """What is measured at every chosen layer, and what that means for each choice."""
        proxy, test = trial.parts()
        chosen = chosen_layers(trial, proxy)
        golden = _golden_layers.best(statistics.mean(test.values("rewrite")), test.layers)
        chosen[_GOLDEN] = (golden[0],)
        distinct = sorted({layer for few in chosen.values() for layer in few})
        facts = trial.split.test[: self.facts]
        done: dict[Mode, dict[int, Facts]] = {mode: {} for mode in _MODES}
        with progress.bar("layers edited in turn", len(distinct)) as advance:
            for layer in distinct:
                for mode in _MODES:
                    before, done[mode][layer] = self._evaluated(trial, facts, layer, mode)
                advance(1)
        names = _golden_layers.headlines(before, _metrics(trial.setting))
        return trial.provenance() | {
            "facts": trial.split.test_indices[: self.facts],
            "names": names,
            "unedited": {name: _golden_layers.of_samples(before[name]) for name in names},
            "choices": {
                choice: {"layers": few} | {m: _means(done[m], few, names) for m in _MODES}
                for choice, few in chosen.items()
            },
            "layers": {
                layer: {m: _means(done[m], [layer], names) for m in _MODES} for layer in distinct
            },
        }

    def _evaluated(
        self, trial: Trial, facts: list[EditRequest], layer: int, mode: Mode
    ) -> tuple[Facts, Facts]:
        """Values of every fact before and after the edits, made once and kept in a file."""
        asked = trial.setting
        when: EvalWhen = self.eval_when if mode == "sequential" else "end"
        cases = lga_fast.evaluate(
            trial.model,
            facts,
            trial.editor,
            layer=layer,
            preset=asked.preset,
            config=asked.config,
            mode=mode,
            eval_when=when,
            metrics=_metrics(asked),
            out=trial.file("sequential", f"{len(facts)}-{mode}-{when}-layer-{layer}", "jsonl"),
            proxy=[request.case_id for request in trial.split.proxy],
        )
        return columns([case.before for case in cases]), columns([case.after for case in cases])


def _metrics(setting: Setting) -> list[str]:
    return list(dict.fromkeys((*setting.metrics, "overall")))


def _means(
    done: Mapping[int, Facts], few: Sequence[int], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Means over the facts, of each the mean over some layers."""
    return {
        name: _golden_layers.of_samples(np.mean([done[layer][name] for layer in few], axis=0))
        for name in names
    }


def _text(study: Study, found: dict[str, Any]) -> tuple[str, ...]:
    said = []
    for name, one in found.items():
        places = ", ".join(
            f"{choice} {row['sequential']['overall']['mean']:.3f} "
            f"({'layers' if len(row['layers']) > 1 else 'layer'} {layers(row['layers'])})"
            for choice, row in one["choices"].items()
        )
        said.append(f"{name}, {one['editor']}: overall after edits one after another: {places}.")
    when = {
        "end": "when all of them are in effect",
        "after_each": "each right after its own edit, with the ones before in effect",
    }[study.eval_when]
    return (
        f"The first {study.facts} test facts, whose order was drawn with the seed, are edited one "
        f"after another at a layer that was chosen on the proxy facts, and measured {when}. "
        "Locality compares with the model without any edit. For contrast the same facts are also "
        "edited alone, each on the unedited model. Overall is each fact's mean of the other "
        f"metrics. Of {study.facts} facts, differences within standard errors mean little.",
        *said,
    )


def _table(name: str, one: dict[str, Any]) -> Table:
    rows = [
        (
            choice,
            layers(row["layers"]),
            *(
                f"{row['sequential'][key]['mean']:.3f} ({row['single'][key]['mean']:.3f})"
                for key in one["names"]
            ),
        )
        for choice, row in one["choices"].items()
    ]
    before = (f"{one['unedited'][key]['mean']:.3f}" for key in one["names"])
    return Table(
        f"{name}, {one['editor']}: {len(one['facts'])} facts",
        ("layer chosen by", "layer", *one["names"]),
        (*rows, ("unedited model", "", *before)),
        "Means over the facts after edits one after another; in brackets after each fact's edit "
        "alone. Of several layers the mean counts. The golden layer is that of the largest mean "
        "rewrite accuracy of single edits on all test facts, known only in hindsight.",
    )


def _figure(number: int, name: str, one: dict[str, Any], value: str) -> Picture:
    rows, series = one["choices"], []
    for mode, words in _MODES.items():
        mean, sem = (np.array([r[mode][value][k] for r in rows.values()]) for k in ("mean", "sem"))
        series.append(Series(words, mean, mean - sem, mean + sem))
    figure = figures.intervals(
        f"{name}, {one['editor']}: {len(one['facts'])} facts",
        [f"{choice}: {layers(row['layers'])}" for choice, row in rows.items()],
        series,
        f"{value} [{_UNITS[value]}]",
    )
    caption = (
        f"{name}: {value} of the same facts, edited one after another and each alone, by who chose "
        "the layer. Bars are standard errors over the facts."
    )
    return Picture(f"{value}-{number}", figure, caption)
