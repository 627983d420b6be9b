"""Edits one after another, at the layers that selectors choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

import lga_fast
from lga_fast import progress
from lga_fast.errors import DataError
from lga_fast.evaluation.evaluate import EvalWhen, Mode
from lga_fast.options import option
from lga_fast.records import EditRequest
from lga_fast.reports import figures
from lga_fast.reports.figures import Series
from lga_fast.reports.table import Table
from lga_fast.studies import _golden_layers
from lga_fast.studies._choices import chosen_layers
from lga_fast.studies._experiment import SelectorExperiment
from lga_fast.studies._report import Picture, Report, layers
from lga_fast.studies._trials import Setting, Trial, run_sweeps
from lga_fast.sweep import statistics
from lga_fast.sweep.layer_edits import columns

_GOLDEN = "golden layer of the test facts"
_MODES: dict[Mode, str] = {"sequential": "one after another", "single": "each alone"}
_UNITS = {"rewrite": "share of answer tokens", "overall": "mean of the metrics"}  # drawn

Facts = dict[str, Float[np.ndarray, " fact"]]  # values by name


@dataclass(frozen=True)
class Study(SelectorExperiment):
    """arXiv 2602.20207, appendix C: the same few test facts edited in turn, weights kept."""

    facts: int = option(10, "Number of test facts to edit.", min=1)
    eval_when: EvalWhen = option(
        "end", "Measure with all edits in effect, or each right after its own."
    )

    def run(self, setting: Setting) -> Report:
        """Make missing sweeps, let every selector choose, and edit at these layers."""
        if self.facts > setting.test:
            raise DataError(
                f"sequential: facts={self.facts}: expected at most the {setting.test} test facts; "
                "ask for fewer, or for more test facts"
            )
        results = {trial.name: self._edit(trial) for trial in run_sweeps(setting)}
        return Report(
            study=self.name,
            title="What is left of edits that others follow, at the layers that selectors choose?",
            text=_text(self, results),
            tables=tuple(_table(name, result) for name, result in results.items()),
            pictures=tuple(
                _figure(i, name, result, value)
                for i, (name, result) in enumerate(results.items())
                for value in _UNITS
            ),
            data={"trials": results},
            provenance=setting.provenance() | vars(self),
        )

    def _edit(self, trial: Trial) -> dict[str, Any]:
        """What is measured at every chosen layer, and what that means for each choice."""
        proxy, test = trial.parts()
        chosen = chosen_layers(trial, proxy, self.compared)
        golden = _golden_layers.best(statistics.mean(test.values("rewrite")), test.layers)
        chosen[_GOLDEN] = (golden[0],)
        distinct = sorted({layer for layers in chosen.values() for layer in layers})
        facts = trial.split.test[: self.facts]
        after: dict[Mode, dict[int, Facts]] = {mode: {} for mode in _MODES}
        with progress.bar("layers edited in turn", len(distinct)) as advance:
            for layer in distinct:
                for mode in _MODES:
                    before, after[mode][layer] = self._evaluated(trial, facts, layer, mode)
                advance(1)
        names = _golden_layers.headlines(before, _metrics(trial.setting))
        return trial.provenance() | {
            "facts": trial.split.test_indices[: self.facts],
            "names": names,
            "unedited": {name: _golden_layers.of_samples(before[name]) for name in names},
            "choices": {
                choice: {"layers": layers} | {m: _means(after[m], layers, names) for m in _MODES}
                for choice, layers in chosen.items()
            },
            "layers": {
                layer: {m: _means(after[m], [layer], names) for m in _MODES} for layer in distinct
            },
        }

    def _evaluated(
        self, trial: Trial, facts: list[EditRequest], layer: int, mode: Mode
    ) -> tuple[Facts, Facts]:
        """Values of every fact before and after the edits, measured once and kept in a file."""
        setting = trial.setting
        when: EvalWhen = self.eval_when if mode == "sequential" else "end"
        cases = lga_fast.evaluate(
            trial.model,
            facts,
            trial.editor,
            layer=layer,
            preset=setting.preset,
            config=setting.config,
            mode=mode,
            eval_when=when,
            metrics=_metrics(setting),
            out=trial.file("sequential", f"{len(facts)}-{mode}-{when}-layer-{layer}", "jsonl"),
            proxy=[request.case_id for request in trial.split.proxy],
        )
        return columns([case.before for case in cases]), columns([case.after for case in cases])


def _metrics(setting: Setting) -> list[str]:
    return list(dict.fromkeys((*setting.metrics, "overall")))


def _means(
    by_layer: Mapping[int, Facts], layers: Sequence[int], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Means over facts of each fact's mean over some layers."""
    return {
        name: _golden_layers.of_samples(np.mean([by_layer[n][name] for n in layers], axis=0))
        for name in names
    }


def _text(study: Study, results: dict[str, Any]) -> tuple[str, ...]:
    summaries = []
    for name, result in results.items():
        places = ", ".join(
            f"{choice} {row['sequential']['overall']['mean']:.3f} "
            f"({'layers' if len(row['layers']) > 1 else 'layer'} {layers(row['layers'])})"
            for choice, row in result["choices"].items()
        )
        summaries.append(
            f"{name}, {result['editor']}: overall after edits one after another: {places}."
        )
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
        *summaries,
    )


def _table(name: str, result: dict[str, Any]) -> Table:
    rows = [
        (
            choice,
            layers(row["layers"]),
            *(
                f"{row['sequential'][key]['mean']:.3f} ({row['single'][key]['mean']:.3f})"
                for key in result["names"]
            ),
        )
        for choice, row in result["choices"].items()
    ]
    before = (f"{result['unedited'][key]['mean']:.3f}" for key in result["names"])
    return Table(
        f"{name}, {result['editor']}: {len(result['facts'])} facts",
        ("layer chosen by", "layer", *result["names"]),
        (*rows, ("unedited model", "", *before)),
        "Means over the facts after edits one after another; in brackets after each fact's edit "
        "alone. Of several layers the mean counts. The golden layer is that of the largest mean "
        "rewrite accuracy of single edits on all test facts, known only in hindsight.",
    )


def _figure(number: int, name: str, result: dict[str, Any], value: str) -> Picture:
    rows, series = result["choices"], []
    for mode, words in _MODES.items():
        mean, sem = (np.array([r[mode][value][k] for r in rows.values()]) for k in ("mean", "sem"))
        series.append(Series(words, mean, mean - sem, mean + sem))
    figure = figures.intervals(
        f"{name}, {result['editor']}: {len(result['facts'])} facts",
        [f"{choice}: {layers(row['layers'])}" for choice, row in rows.items()],
        series,
        f"{value} [{_UNITS[value]}]",
    )
    caption = (
        f"{name}: {value} of the same facts, edited one after another and each alone, by who chose "
        "the layer. Bars are standard errors over the facts."
    )
    return Picture(f"{value}-{number}", figure, caption)
