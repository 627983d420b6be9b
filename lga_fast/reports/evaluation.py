"""An evaluation on a terminal and as JSON: every value before and after, and the cost."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lga_fast import provenance
from lga_fast.evaluation_records import Evaluation
from lga_fast.records import LayerRanking
from lga_fast.reports import ranking_table

_MODES = {
    ("single", "end"): "each edited alone",
    ("sequential", "end"): "edited one after another, measured after the last",
    ("sequential", "after_each"): "edited one after another, each measured after its own edit",
    ("batch", "end"): "all in one edit",
}


def to_json(results: Evaluation) -> str:
    """Summary, provenance and the result of every case."""
    summary = asdict(results.summary) | {"edits_per_second": results.summary.edits_per_second}
    cases = [asdict(result) for result in results]
    whole = {"summary": summary, "provenance": results.provenance, "cases": cases}
    return json.dumps(whole, indent=2, ensure_ascii=False)


def show(results: Evaluation, console: Console, ranking: LayerRanking | None = None) -> None:
    """Print the summary, with what is to be known of the `ranking` that chose the layer."""
    config, run = results.provenance["configuration"], results.provenance["made"][-1]
    chosen = [ranking_table.choice(asdict(ranking))] if ranking else []
    parts: list[RenderableType] = [
        Text("\n".join([*chosen, *header(results), ""]), style="dim"),
        _table(results),
        Text("\n".join(["", *remarks(results)]), style="dim"),
    ]
    parts += [Text(f"• {note}") for note in ranking.notes] if ranking else []
    title = Text(f"{config['editor']}: layer {config['layer']} of {run['model']}", style="bold")
    console.print(Panel(Group(*parts), title=title, expand=False))


def header(results: Evaluation) -> list[str]:
    """What was evaluated, and how."""
    config, run = results.provenance["configuration"], results.provenance["made"][-1]
    data = run["data"]
    file = f" ({data['file']})" if data["file"] else ""
    lines = [f"{config['requests']} requests from {data['name']}{file}"]
    lines[0] += f", {_MODES[config['mode'], config['eval_when']]}"
    if config["proxy"]:
        lines.append(f"{len(config['proxy'])} proxy facts are not among them")
    if results.summary.dropped:
        lines.append(f"left out of the data: {results.summary.dropped}")
    lines.append(f"{provenance.arithmetic(run | config)}, kernels: {run['kernel']}")
    return lines


def _table(results: Evaluation) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("")
    for name in ("before", "after", "sd", "requests"):
        table.add_column(name, justify="right")
    summary = results.summary
    for name, after in summary.after.items():
        style = "dim" if "/" in name else ""  # a group of probes
        numbers = (summary.before[name].mean, after.mean, after.sd)
        texts = [f"{number:.3f}" for number in numbers]
        table.add_row(Text(name), *texts, str(after.count), style=style)
    return table


def remarks(results: Evaluation) -> list[str]:
    """What the numbers are, what else there is to know of them, and what they cost."""
    summary, cases = results.summary, len(results)
    names = {name for result in results for name in result.after} - set(summary.after)
    lines = ["Means over the requests that have a value; sd: of the values after the edit"]
    if names:
        lines.append(f"Not measured for lack of probes: {', '.join(sorted(names))}")
    if summary.known:
        lines.append(f"{summary.known} of {cases} requests: the model already gave the new answer")
    if noted := [result for result in results if result.notes]:
        first = noted[0]
        lines.append(f"{len(noted)} of {cases} edits have notes: {first.case_id}: {first.notes[0]}")
        lines[-1] += "; ..." if len(noted) > 1 else ""
    lines.append(
        f"{summary.seconds_edit / cases:.2f} s to edit and {summary.seconds_measure / cases:.2f} s "
        f"to measure each request, {summary.edits_per_second:.2f} requests per second; "
        f"peak memory {summary.peak_bytes / 2**20:.0f} MiB"
    )
    return lines
