"""The work of `lga-fast evaluate`."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from lga_fast import datasets, distributed
from lga_fast import metrics as metric_members
from lga_fast.commands import _inputs, _options, _recipe
from lga_fast.datasets import FactToken, Finding, LoadedEdits, LoadReport
from lga_fast.editors import Preset, chosen_layers, verbose_costs
from lga_fast.errors import NoLayer
from lga_fast.evaluation.evaluate import evaluate
from lga_fast.evaluation.loop import EvalWhen, Mode
from lga_fast.evaluation_records import Evaluation
from lga_fast.files import write_atomic
from lga_fast.parsing import parse_yaml
from lga_fast.records import LayerRanking
from lga_fast.reports import evaluation, pages


def run(
    data: str,
    fact_token: FactToken,
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
    html: Path | None,
    **fields: Any,
) -> None:
    """Evaluate the editor, print the summary and write results to `out`."""
    how = _inputs.take_model(fields)
    arguments = _inputs.editor_arguments(editor, preset, config, layer, seed, fields) | {
        "mode": mode,
        "eval_when": eval_when,
        "metrics": metrics,
        "metric_options": _by_metric(metric_options),
        "out": out / "results.jsonl" if out else None,
    }
    metric_members.choose(metrics, arguments["metric_options"])  # so that bad values are refused
    _inputs.check_folders(out)
    _inputs.check_page(html)
    facts = _inputs.load_requests(data, fact_token)
    model = _inputs.load_model(**how)

    def evaluate_at(held_out: datasets.Split | None, **layers: Any) -> Evaluation:
        test = _test(facts, held_out, skip_unusable)
        proxies = [fact.case_id for fact in held_out.proxy] if held_out else []
        with verbose_costs():
            return evaluate(model, test[:limit], proxy=proxies, **(arguments | layers))

    held_out = datasets.split(facts, proxy, seed) if _options.on_command_line("proxy") else None
    ranking = None
    try:
        results = evaluate_at(held_out, layer=layer)
    except NoLayer:
        held_out = held_out or datasets.split(facts, proxy, seed)
        ranking = _inputs.choose_layer(model, held_out.proxy, seed, arguments)
        if out and distributed.current().is_rank_zero:
            out.mkdir(parents=True, exist_ok=True)
            write_atomic(out / "ranking.json", ranking.to_json() + "\n")
        results = evaluate_at(held_out, **chosen_layers(editor, config, int(ranking)))
    if not distributed.current().is_rank_zero:
        return
    if html:
        write_atomic(html, pages.evaluation_page(results, ranking, _recipe.command_line()))
    _report(results, ranking, as_json, out)
    if html and not as_json:
        click.echo(f"Page: {html}")


def _report(
    results: Evaluation, ranking: LayerRanking | None, as_json: bool, out: Path | None
) -> None:
    if out:
        write_atomic(out / "summary.json", evaluation.to_json(results) + "\n")
    if as_json:
        click.echo(evaluation.to_json(results))
        return
    evaluation.show(results, Console(markup=False), ranking)
    if out:
        click.echo(f"Written to {out}: {', '.join(sorted(file.name for file in out.iterdir()))}")


def _test(facts: LoadedEdits, held_out: datasets.Split | None, skip_unusable: bool) -> LoadedEdits:
    """What is not held out, in the order of the data; the report lists what is skipped."""
    usable, skipped = [], []
    for i in sorted(held_out.test_indices) if held_out else range(len(facts)):
        fact = facts[i]
        if skip_unusable and fact.subject_span is None:
            why = "its subject is not in its prompt"
            skipped.append(Finding("dropped", i, fact.case_id, why))
        else:
            usable.append(fact)
    report = LoadReport(facts.report.records, [*facts.report.findings, *skipped])
    return LoadedEdits(usable, report, facts.provenance)


def _by_metric(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Options by metric, from METRIC.OPTION=VALUE texts."""
    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        metric, _, option = name.partition(".")
        if not (metric and option and equals):
            raise click.UsageError(f"--metric-option: expected METRIC.OPTION=VALUE, got {text!r}")
        try:
            options.setdefault(metric, {})[option] = parse_yaml(value)
        except ValueError as error:
            raise click.UsageError(
                f"--metric-option {name}: expected a value in YAML, got {reprlib.repr(value)}: "
                f"{error}"
            ) from None
    return options
