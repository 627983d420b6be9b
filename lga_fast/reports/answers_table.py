"""What an edit did, on a terminal: answers before and after, whether it took, what it cost."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lga_fast.reports.answers import Answer, AnswerChange, EditReport


def show(report: EditReport, console: Console) -> None:
    """Print the report."""
    made = report.provenance
    notes = [Text(f"• {note}") for note in report.notes]
    parts: list[RenderableType] = [_header(report), _table(report), _verdict(report), *notes]
    title = Text(f"{made['editor']}: layer {made['layer']} of {made['model']}", style="bold")
    console.print(Panel(Group(*parts), title=title, expand=False))


def _header(report: EditReport) -> Text:
    made = report.provenance
    lines = [f"{made['dtype']} on {made['device']}"]
    if chosen := made.get("layer_choice"):
        lines[:0] = [_chosen(chosen)]
    return Text("\n".join(lines) + "\n", style="dim")


def _chosen(ranking: dict[str, Any]) -> str:
    data = ranking["provenance"]["data"]
    file = f" ({data['file']})" if data["file"] else ""
    notes = f"; notes on the choice: {len(ranking['notes'])}, see `lga-fast select`"
    return (
        f"layer {ranking['layer']} chosen by {ranking['selector']} on {ranking['requests']} proxy "
        f"facts from {data['name']}{file}{notes if ranking['notes'] else ''}"
    )


def _table(report: EditReport) -> Table:
    news = {line.new for line in report.answers}
    (new,) = news if len(news) == 1 else ("new",)
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("prompt", "before", "after"):
        table.add_column(name)
    table.add_column(Text(f"P({new})"), justify="right")
    for line in report.answers:
        named = f"{line.new} " if len(news) > 1 else ""
        table.add_row(
            line.kind,
            Text(line.prompt),
            _said(line.before),
            _said(line.after, _colour(line)),
            Text(f"{named}{_percent(line.new_before)} → {_percent(line.new_after)}"),
        )
    return table


def _said(answer: Answer, style: str = "") -> Text:
    if answer.probability is None:
        return Text("(ends the text)", style=style)
    return Text(f"{answer.text} {_percent(answer.probability)}", style=style)


def _colour(line: AnswerChange) -> str:
    """Green: as it should be."""
    wanted = line.before.text if line.kind == "unrelated" else line.target.strip()
    return "green" if line.after.text == wanted else "red"


def _verdict(report: EditReport) -> Text:
    lines = []
    if left := report.requests - sum(line.kind == "prompt" for line in report.answers):
        lines.append(f"… and {left} more")
    new = report.answers[0].new.strip()
    if report.requests > 1:
        took = f"The edit took for {report.took} of {report.requests} requests."
    elif report.took:
        took = f"The edit took: {new!r} is the answer now."
    else:
        took = f"The edit did not take: the answer is not {new!r}."
    lines += ["", took]
    if unrelated := [line for line in report.answers if line.kind == "unrelated"]:
        changed = sum(line.before.text != line.after.text for line in unrelated)
        lines.append(f"Elsewhere: {changed} of {len(unrelated)} unrelated answers changed.")
    shares = []
    for name, average in report.after.items():
        was = "" if name == "locality" else f"{report.before[name].mean:.0%} → "
        shares.append(f"{name} {was}{average.mean:.0%} ({report.probes[name]})")
    lines.append(f"Shares of tokens (prompts): {', '.join(shares)}")
    if report.provenance["dtype"] != "float32":
        lines.append(
            f"Rounding to {report.provenance['dtype']}: ‖applied − intended‖ / ‖intended‖ = "
            f"{max(report.rounding.values()):.2g}"
        )
    return Text("\n".join(lines))


def _percent(p: float) -> str:
    return f"{p:.1%}" if p >= 0.0005 else "<0.1%"
