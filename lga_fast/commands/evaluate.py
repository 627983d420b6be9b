"""Edit many requests and measure what that did; a run that was stopped goes on.

Without --model and --data it runs on the embedded atlas. Without --layer, and without one in
--config, the layer is chosen by lga on proxy facts, and the other requests are evaluated. An
editor's options that are not given are those of --config, of the model's own advice, of --preset,
or else as shown here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console

from lga_fast import datasets, distributed, select_layer
from lga_fast.commands import _inputs, _options
from lga_fast.datasets import Finding, LoadedEdits, LoadReport
from lga_fast.editors import Preset
from lga_fast.editors._cost_messages import costs_said
from lga_fast.errors import NoLayer
from lga_fast.evaluation.evaluate import METRICS, EvalWhen, Mode, evaluate
from lga_fast.evaluation_records import Evaluation
from lga_fast.files import write_atomic
from lga_fast.loading import Weights
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.reports import evaluation
from lga_fast.reports import json as json_report


def command() -> click.Command:
    """The command; its last options are the fields of the editors."""
    made = click.Command("evaluate", callback=_run, help=__doc__)
    made.params += [
        *_options.model(),
        _options.weights(),
        _options.data(),
        click.Option(
            ["--limit"], type=click.IntRange(min=1), help="Evaluate only the first so many."
        ),
        click.Option(
            ["--skip-unusable"],
            is_flag=True,
            help="Leave out requests whose subject is not in their prompt, and say how many; "
            "else they are an error.",
        ),
        *_options.editing(),
        _options.proxy(
            "Number of proxy facts, drawn as `select` draws them, to choose the layer on; never "
            "evaluated. With a layer given they are left out only if this option is given too."
        ),
        _options.seed(),
        _options.choice(
            "--mode", Mode, "Every request alone, one after another, or all in one edit."
        ),
        _options.choice("--eval-when", EvalWhen, "When to measure in sequential mode."),
        _options.metrics(METRICS),
        click.Option(
            ["--metric-option", "metric_options"],
            multiple=True,
            metavar="METRIC.OPTION=VALUE",
            help="An option of a metric, e.g. fluency.sentences=false. May be given several times.",
        ),
        _options.as_json(),
        _options.folder(
            "--out",
            "Folder for results.jsonl, written as it goes and gone on with, for summary.json, and "
            "for ranking.json if a layer was chosen.",
        ),
        *_options.fields("lga_fast.editors", "Editor", taken=["seed"]),
    ]
    return made


def _run(
    source: str,
    device: str | None,
    dtype: str | None,
    memory_budget: str | None,
    weights: Weights,
    data: str,
    limit: int | None,
    skip_unusable: bool,
    editor: str,
    preset: Preset,
    config: Path | None,
    layer: int | None,
    proxy: int,
    seed: int,
    mode: Mode,
    eval_when: EvalWhen,
    metrics: list[str],
    metric_options: tuple[str, ...],
    as_json: bool,
    out: Path | None,
    **fields: Any,
) -> None:
    how = _inputs.editing(editor, preset, config, seed, fields) | {
        "mode": mode,
        "eval_when": eval_when,
        "metrics": metrics,
        "metric_options": _by_metric(metric_options),
        "out": out / "results.jsonl" if out else None,
    }
    facts = _inputs.edits(data)
    model = _inputs.model(source, device, dtype, memory_budget, weights)
    if model.placement:
        click.echo(model.placement, err=True)

    def run(layer: int | None, held_out: datasets.Split | None) -> Evaluation:
        test = _test(facts, held_out, skip_unusable)
        few = LoadedEdits(test[:limit], test.report, test.provenance)
        proxies = [fact.case_id for fact in held_out.proxy] if held_out else []
        with costs_said():
            return evaluate(model, few, layer=layer, proxy=proxies, **how)

    held_out = datasets.split(facts, proxy, seed) if _options.asked("proxy") else None
    try:
        results = run(layer, held_out)
    except NoLayer:
        held_out = held_out or datasets.split(facts, proxy, seed)
        results = run(_chosen(model, held_out.proxy, seed, out), held_out)
    if not distributed.current().is_rank_zero:
        return
    if out:
        write_atomic(out / "summary.json", evaluation.to_json(results) + "\n")
    if as_json:
        click.echo(evaluation.to_json(results))
        return
    evaluation.show(results, Console())
    if out:
        click.echo(f"Written to {out}: {', '.join(sorted(file.name for file in out.iterdir()))}")


def _chosen(model: EditableModel, facts: Sequence[EditRequest], seed: int, out: Path | None) -> int:
    """The layer that lga chooses."""
    ranking = select_layer(model, facts, seed=seed)
    if out and distributed.current().is_rank_zero:
        out.mkdir(parents=True, exist_ok=True)
        json_report.write(ranking, out / "ranking.json")
    return int(ranking)


def _test(facts: LoadedEdits, held_out: datasets.Split | None, skip_unusable: bool) -> LoadedEdits:
    """What is not held out, in the order of the data; what is skipped stands in the report."""
    kept, skipped = [], []
    for i in sorted(held_out.test_indices) if held_out else range(len(facts)):
        fact = facts[i]
        if skip_unusable and fact.subject_span is None:
            why = "its subject is not in its prompt"
            skipped.append(Finding("dropped", i, fact.case_id, why))
        else:
            kept.append(fact)
    report = LoadReport(facts.report.records, [*facts.report.findings, *skipped])
    return LoadedEdits(kept, report, facts.provenance)


def _by_metric(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        place, is_there, value = text.partition("=")
        metric, _, option = place.partition(".")
        if not (metric and option and is_there):
            raise click.UsageError(f"--metric-option: expected METRIC.OPTION=VALUE, got {text!r}")
        found.setdefault(metric, {})[option] = yaml.safe_load(value)
    return found
