"""Edit many requests and measure the effect; an interrupted run resumes.

Without --model and --data it runs on the embedded atlas. If neither --layer nor --config names a
layer, reach chooses one on proxy facts and the remaining requests are evaluated. Editor options
that are not given come from --config, then from the model's own recommendation, then from --preset,
and last from the defaults shown below.
"""

from __future__ import annotations

from typing import Any

import click

from lga_fast.commands import _field_options, _options, _static

_LOOP = "lga_fast.evaluation.loop"


def command() -> click.Command:
    """The command; its last options are the fields of the editors."""
    evaluate = click.Command("evaluate", callback=_run, help=__doc__)
    evaluate.params += [
        *_options.model(),
        *_options.data(),
        _options.count("--limit", None, "Evaluate only the first N requests."),
        click.Option(
            ["--skip-unusable"],
            is_flag=True,
            help="Skip and count requests whose subject is not in their prompt, instead of failing "
            "on them.",
        ),
        *_options.editing(),
        _options.proxy(
            "Number of proxy facts on which to choose the layer, drawn as by `select` and never "
            "evaluated. If a layer is given, proxy facts are held out only if this option is too."
        ),
        _options.seed(),
        _options.choice(
            "--mode", _LOOP, "Mode", "Edit every request alone, one after another, or all at once."
        ),
        _options.choice("--eval-when", _LOOP, "EvalWhen", "When to measure in sequential mode."),
        _options.metrics(_static.module("lga_fast.evaluation.evaluate").METRICS),
        click.Option(
            ["--metric-option", "metric_options"],
            multiple=True,
            metavar="METRIC.OPTION=VALUE",
            help="Option of a metric, e.g. fluency.sentences=false. Can be repeated.",
        ),
        _options.as_json(),
        _options.folder(
            "--out",
            "Folder for results.jsonl, from which an interrupted run resumes, for summary.json, "
            "and for ranking.json if a layer was chosen.",
        ),
        _options.page(),
        *_field_options.fields("lga_fast.editors", "Editor", taken=["seed"]),
    ]
    return evaluate


def _run(**options: Any) -> None:
    from lga_fast.commands._run_evaluate import run

    run(**options)
