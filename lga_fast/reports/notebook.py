"""Results in a notebook: the terminal's tables as HTML."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lga_fast import extras
from lga_fast.evaluation_records import Evaluation
from lga_fast.layer_scores import LayerScores
from lga_fast.records import LayerRanking
from lga_fast.reports import answers_table, evaluation, figures, plot, ranking_table
from lga_fast.reports.answers import EditReport
from lga_fast.weight_edit import WeightEdit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = '<pre style="line-height:normal;overflow-x:auto">{code}</pre>'
_WIDTH = 100
_FACTS = 10  # of an edit that are shown


def ranking_html(ranking: LayerRanking) -> str | None:
    """The chart; None for a ranking that was made by hand."""
    if not {"model", "kernel"} <= ranking.provenance.keys():
        return None
    return _html(lambda console: ranking_table.show(ranking, console))


def evaluation_html(results: Evaluation) -> str | None:
    """The summary; None for an evaluation that was made by hand."""
    if not {"configuration", "made"} <= results.provenance.keys():
        return None
    return _html(lambda console: evaluation.show(results, console))


def edit_html(edit: WeightEdit) -> str:
    """Facts and weights."""
    about = edit.provenance
    facts = _table(f"{about.get('editor', 'edit')} of {about.get('model', 'a model')}")
    for name in ("prompt", "new answer"):
        facts.add_column(name)
    requests = about.get("requests", ())
    for fact in requests[:_FACTS]:
        facts.add_row(str(fact.get("prompt")), str(fact.get("target_new")))
    if len(requests) > _FACTS:
        facts.add_row(f"and {len(requests) - _FACTS} more", "")
    weights = _table("")
    for name in ("weight", "d_out x d_in", "rank"):
        weights.add_column(name)
    for name, delta in edit.deltas.items():
        weights.add_row(name, "x".join(map(str, delta.shape)), str(delta.rank))
    return _html(lambda console: console.print(facts, weights))


def scores_html(scores: LayerScores) -> str:
    """The sum over requests of each layer."""
    table = _table(f"{len(scores.case_ids)} requests")
    for name in ("layer", "Σ φ"):
        table.add_column(name, justify="right")
    for layer, total in enumerate(scores.total()):
        table.add_row(str(layer), f"{total:.4g}")
    return _html(lambda console: console.print(table))


@dataclass(frozen=True)
class Answers:
    """The answers of a report that a notebook shows."""

    report: EditReport

    def __repr__(self) -> str:
        """Its success, without the answers."""
        return f"Answers({self.report!r})"

    def _repr_html_(self) -> str:
        return _html(lambda console: answers_table.show(self.report, console))


@dataclass(frozen=True)
class Drawing:
    """A figure that a notebook shows."""

    figure: Figure

    def __repr__(self) -> str:
        """Its size, without what it rests on."""
        width, height = self.figure.get_size_inches()
        return f"Drawing({width:g} x {height:g} inches)"

    def _repr_svg_(self) -> str:
        return figures.svg(self.figure).decode()


def drawing(ranking: LayerRanking) -> Drawing:
    """The ranking's figure: see `lga_fast.reports.plot.draw`.

    Raises:
        LgaFastError: matplotlib is not installed.
    """
    extras.need("a figure of a ranking", ["matplotlib"], "plot")
    return Drawing(plot.draw(ranking))


def _table(title: str) -> Table:
    return Table(title=title or None, title_justify="left", box=None, header_style="bold")


def _html(show: Callable[[Console], None]) -> str:
    console = Console(  # brackets in a prompt are no markup
        record=True, file=io.StringIO(), width=_WIDTH, force_jupyter=False, markup=False
    )
    show(console)
    return console.export_html(inline_styles=True, code_format=_FORMAT)
