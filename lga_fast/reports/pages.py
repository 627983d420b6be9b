"""Pages of rankings, of an edit and of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lga_fast.evaluation_records import Average, Evaluation
from lga_fast.records import LayerRanking
from lga_fast.reports import answers_table, evaluation, figures, html, plot, ranking_table
from lga_fast.reports.answers import AnswerChange, EditReport
from lga_fast.reports.html import Origin, Section
from lga_fast.reports.table import Table
from lga_fast.weight_edit import WeightEdit

_CASES = 100  # requests of an evaluation that are listed


def ranking_page(rankings: Mapping[str, LayerRanking], command: str = "") -> str:
    """Each selector's choice with its evidence, as HTML.

    Args:
        rankings: of one model and the same facts, by selector.
        command: the command line, if there was one.
    """
    first, *others = rankings.values()
    choices = ", ".join(f"{name}: {one.layer}" for name, one in rankings.items())
    model = first.provenance["model"]
    title = f"Layer {first.layer} of {model}" if not others else f"Layers of {model}: {choices}"
    sections = [_ranking(one, one.selector if others else "") for one in rankings.values()]
    about = dict(first.provenance)
    if others:
        about["options"] = {n: one.provenance.get("options") for n, one in rankings.items()}
    return html.page(title, sections, Origin(about, command, [_selectors_options(rankings)]))


def edit_page(
    report: EditReport, change: WeightEdit, ranking: LayerRanking | None = None, command: str = ""
) -> str:
    """An edit's effect, with the evidence for its layer, as HTML.

    Args:
        report: of `lga_fast.reports.answers.compare`.
        change: what it is of.
        ranking: which chose the layer.
        command: the command line, if there was one.
    """
    about = {n: v for n, v in report.provenance.items() if n not in ("layer_choice", "losses")}
    title = f"{about['editor']} at layer {about['layer']} of {about['model']}"
    text = [*answers_table.verdict(report), *answers_table.header(report)]
    tables = (_answers(report), _accuracies(report), _weights(change))
    sections = [Section(text, tables, notes=report.notes)]
    sections += [_ranking(ranking, f"Why layer {ranking.layer}")] if ranking else []
    options = html.options_table(about["config"], about["config_source"], "Options of the editor")
    return html.page(title, sections, Origin(about, command, [options]))


def evaluation_page(
    results: Evaluation, ranking: LayerRanking | None = None, command: str = ""
) -> str:
    """An evaluation's tables, with the evidence for its layer, as HTML.

    Args:
        results: of `lga_fast.evaluate`.
        ranking: which chose the layer.
        command: the command line, if there was one.
    """
    config, run = results.provenance["configuration"], results.provenance["made"][-1]
    title = f"{config['editor']} at layer {config['layer']} of {run['model']}"
    text = [*evaluation.header(results), *evaluation.remarks(results)]
    tables, pictures = (_values(results), _cases(results)), ((_effects(results), _EFFECTS),)
    sections = [Section(text, tables[:1], pictures), Section((), tables[1:])]
    sections += [_ranking(ranking, f"Why layer {ranking.layer}")] if ranking else []
    about = config | run
    sources = run["config_source"]
    options = html.options_table(config["editor_config"], sources, "Options of the editor")
    return html.page(title, sections, Origin(about, command, [options]))


def _ranking(ranking: LayerRanking, title: str) -> Section:
    share = ranking.stability[ranking.layer] if ranking.stability else None
    agree = f"; {share:.0%} of resamples of the facts agree" if share is not None else ""
    text = [f"{ranking.selector} chooses layer {ranking.layer} of {len(ranking.scores)}{agree}."]
    text += [*ranking_table.header(ranking), *ranking_table.remarks(ranking)]
    picture = figures.svg(plot.draw(ranking)), f"{ranking.selector}'s scores by layer."
    return Section(text, (_layers(ranking),), (picture,), title, ranking.notes)


def _layers(ranking: LayerRanking) -> Table:
    place = {layer: str(i) for i, layer in enumerate(ranking.order, 1)}
    layers = range(len(ranking.scores))
    columns = {"score": [ranking_table.score_text(ranking, layer) for layer in layers]}
    if ranking.stability:
        columns["stability"] = [f"{share:.0%}" for share in ranking.stability]
    if ranking.positive_share:
        columns["facts above 0"] = [f"{share:.0%}" for share in ranking.positive_share]
    columns["place"] = [place.get(layer, "excluded") for layer in layers]
    rows = zip(map(str, layers), *columns.values(), strict=True)
    return Table(f"Layers by {ranking.selector}", ("layer", *columns), tuple(rows))


def _selectors_options(rankings: Mapping[str, LayerRanking]) -> Table:
    """One row for each option; of those that differ, every selector's value."""
    found: dict[str, dict[str, Any]] = {}
    for selector, ranking in rankings.items():
        for name, value in ranking.provenance.get("options", {}).items():
            found.setdefault(name, {})[selector] = value
    values: dict[str, Any] = {}
    for name, by_selector in found.items():
        value, *others = by_selector.values()
        same = all(other == value for other in others)
        values[name] = value if same else [f"{n}: {v}" for n, v in by_selector.items()]
    return html.options_table(values, title="Options of the selection")


def _answers(report: EditReport) -> Table:
    def row(line: AnswerChange) -> tuple[str, ...]:
        texts = [
            f"{one.text} ({answers_table.percent(one.probability)})"
            if one.probability is not None
            else "(ends the text)"
            for one in (line.before, line.after)
        ]
        rise = [answers_table.percent(p) for p in (line.new_before, line.new_after)]
        return (line.kind, line.prompt, *texts, f"{line.new.strip()}: {' → '.join(rise)}")

    left = report.requests - sum(line.kind == "prompt" for line in report.answers)
    return Table(
        "Answers",
        ("", "prompt", "before", "after", "probability of the new answer"),
        tuple(map(row, report.answers)),
        "Decoded greedily; in brackets the probability of the whole answer."
        + (f" {left} more requests are not shown." if left else ""),
        words=True,
    )


def _accuracies(report: EditReport) -> Table:
    rows = [
        (name, _mean(report.before[name]), _mean(after), str(report.probes[name]))
        for name, after in report.after.items()
    ]
    return Table(
        "Token accuracy",
        ("", "before", "after", "prompts"),
        tuple(rows),
        "Teacher-forced: the share of answer tokens that the model would choose. Locality: of the "
        "unedited model's own.",
    )


def _weights(change: WeightEdit) -> Table:
    rows = [
        (name, "×".join(map(str, delta.shape)), str(delta.rank))
        for name, delta in change.deltas.items()
    ]
    return Table("Changed weights", ("", "d_out × d_in", "rank"), tuple(rows))


def _mean(average: Average) -> str:
    """With its standard error, where there is one."""
    error = f" ± {_error(average):.3f}" if average.count > 1 else ""
    return f"{average.mean:.3f}{error}"


def _error(average: Average) -> float:
    return average.sd / math.sqrt(average.count)


def _values(results: Evaluation) -> Table:
    summary = results.summary
    rows = [
        (name, _mean(summary.before[name]), _mean(after), f"{after.sd:.3f}", str(after.count))
        for name, after in summary.after.items()
    ]
    return Table(
        "Before and after",
        ("", "before", "after", "sd", "requests"),
        tuple(rows),
        "Means ± standard errors over requests; sd: standard deviation of the values after.",
    )


_EFFECTS = "Means with standard errors over requests, before and after the edits."


def _effects(results: Evaluation) -> bytes:
    names = [name for name in results.summary.after if "/" not in name]
    series = []
    for when, averages in (("before", results.summary.before), ("after", results.summary.after)):
        means = np.array([averages[name].mean for name in names])
        errors = np.array([_error(averages[name]) for name in names])
        series.append(figures.Series(when, means, means - errors, means + errors))
    return figures.svg(figures.intervals("What the edits did", names, series, "mean over requests"))


def _cases(results: Evaluation) -> Table:
    names = [name for name in results.summary.after if "/" not in name]
    rows = [
        (result.case_id, *(_value(result.after.get(name)) for name in names))
        for result in results[:_CASES]
    ]
    more = len(results) - _CASES
    return Table(
        "Every request after its edit",
        ("", *names),
        tuple(rows),
        f"{more} more requests are not shown; --out or to_json has all." if more > 0 else "",
    )


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
