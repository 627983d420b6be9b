"""The effect of an edit, on a terminal: answers before and after, success, side effects."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lga_fast import provenance
from lga_fast.reports import ranking_table
from lga_fast.reports.answers import Answer, AnswerChange, EditReport


def show(report: EditReport, console: Console) -> None:
    """Print the report."""
    about = report.provenance
    chosen = about.get("layer_choice", {}).get("notes", ())
    notes = [Text(f"• {note}") for note in (*chosen, *report.notes)]
    head, result = "\n".join(header(report)), "\n".join(["", *verdict(report)])
    parts: list[RenderableType] = [Text(f"{head}\n", style="dim"), _table(report), Text(result)]
    parts += notes
    title = Text(f"{about['editor']}: layer {about['layer']} of {about['model']}", style="bold")
    console.print(Panel(Group(*parts), title=title, expand=False))


def header(report: EditReport) -> list[str]:
    """How the layer was chosen, if it was, and on what the edit was solved."""
    lines = [provenance.arithmetic(report.provenance)]
    if ranking := report.provenance.get("layer_choice"):
        lines.insert(0, ranking_table.choice(ranking))
    return lines


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
            _answer(line.before),
            _answer(line.after, _colour(line)),
            Text(f"{named}{percent(line.new_before)} → {percent(line.new_after)}"),
        )
    if left := report.requests - sum(line.kind == "prompt" for line in report.answers):
        table.add_row("", Text(f"… and {left} more"))
    return table


def _answer(answer: Answer, style: str = "") -> Text:
    if answer.probability is None:
        return Text("(ends the text)", style=style)
    return Text(f"{answer.text} {percent(answer.probability)}", style=style)


def _colour(line: AnswerChange) -> str:
    """Green if the answer is the wanted one, else red."""
    wanted = line.before.text if line.kind == "unrelated" else line.target.strip()
    return "green" if line.after.text == wanted else "red"


def verdict(report: EditReport) -> list[str]:
    """Whether the edit took effect, and what else it did."""
    new = report.answers[0].new.strip()
    if report.requests > 1:
        success = f"The edit took effect for {report.took} of {report.requests} requests."
    elif report.took:
        success = f"The edit took effect: the model now answers {new!r}."
    else:
        success = f"The edit did not take effect: the model does not answer {new!r}."
    lines = [success]
    if unrelated := [line for line in report.answers if line.kind == "unrelated"]:
        changed = sum(line.before.text != line.after.text for line in unrelated)
        lines.append(f"Elsewhere: {changed} of {len(unrelated)} unrelated answers changed.")
    shares = []
    for name, average in report.after.items():
        before = "" if name == "locality" else f"{report.before[name].mean:.0%} → "
        shares.append(f"{name} {before}{average.mean:.0%} ({report.probes[name]})")
    lines.append(f"Token accuracy (prompts): {', '.join(shares)}")
    if report.provenance["dtype"] != "float32":
        lines.append(
            f"Rounding to {report.provenance['dtype']}: ‖applied − intended‖ / ‖intended‖ = "
            f"{max(report.rounding.values()):.2g}"
        )
    return lines


def percent(p: float) -> str:
    """A probability as text."""
    return f"{p:.1%}" if p >= 0.0005 else "<0.1%"
