"""Figures of studies: curves over layers, heat maps, points with their intervals.

A figure is as wide as a column of a paper, or as two if it has many layers, and its text can be
read at that width.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from lga_fast.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, for colour-blind readers; shapes repeat what colours say.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
COLUMN, PAGE = 3.5, 7.0  # inches
TEXT, SMALL = 7, 6  # points
_STYLE: dict[Any, Any] = {"font.size": TEXT, "axes.titlesize": TEXT + 1, "axes.linewidth": 0.6} | {
    f"{part}.labelsize": TEXT for part in ("axes", "xtick", "ytick")
}
_MANY = 32  # layers that a column has room for


@dataclass(frozen=True)
class Series:
    """Values with the ends of their intervals; both ends equal the value if it has none."""

    name: str
    values: Float[np.ndarray, " place"]
    low: Float[np.ndarray, " place"]
    high: Float[np.ndarray, " place"]


def curves(
    title: str,
    layers: Sequence[int],
    series: Sequence[Series],
    ylabel: str,
    marks: Mapping[str, int],
) -> Figure:
    """One line with error bars for each series, over layers; `marks` gives layers to name."""
    figure, (axes,) = new(len(layers), 2.6)
    for i, one in enumerate(series):
        errors = [one.values - one.low, one.high - one.values]
        axes.errorbar(
            np.array(layers) + (i - (len(series) - 1) / 2) * 0.08,  # bars side by side
            one.values,
            yerr=errors,
            label=one.name,
            color=_COLOURS[i % len(_COLOURS)],
            marker=_SHAPES[i % len(_SHAPES)],
            linestyle=_LINES[i % len(_LINES)],
            markersize=3,
            capsize=1.5,
            linewidth=0.9,
        )
    for i, (name, layer) in enumerate(marks.items()):  # each on a line of its own
        axes.axvline(layer, color="0.6", linewidth=1, zorder=0)
        axes.annotate(
            name,
            (layer, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3 + 9 * i),
            textcoords="offset points",
            ha="center",
            fontsize=TEXT,
        )
    axes.set(xlabel="layer", ylabel=fill(ylabel, 26), xticks=ticks(layers))
    axes.set_title(title, pad=6 + 9 * len(marks), fontsize=TEXT + 1)
    axes.grid(axis="y", color="0.9")
    _legend(figure, axes)
    return figure


def heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[int] | Sequence[str],
    values: Float[np.ndarray, "row column"],
    label: str,
    stars: Sequence[tuple[int, int | str]],
    framed: Sequence[int] = (),
    xlabel: str = "layer",
) -> Figure:
    """A cell for each row and column, coloured from 0 on.

    Args:
        title: of the figure.
        rows: their names.
        columns: their names.
        values: of the cells.
        label: of the colours.
        stars: cells to mark, by number of the row and name of the column.
        framed: columns to mark.
        xlabel: what the columns are.
    """
    numbers = len(columns) <= 16
    names = [str(c) if c in ticks(columns) else "" for c in columns]
    longest, wide = max(map(len, names)), len(columns) > 8
    upright = longest * sum(map(bool, names)) > 5 * (PAGE if wide else COLUMN)  # 5 per inch
    height = 0.26 * len(rows) + 1.1 + (0.06 * longest if upright else 0)
    figure, (axes,) = new(_MANY + wide, height)
    image = axes.imshow(values, cmap="cividis", aspect="auto", vmin=0)
    scale = figure.colorbar(image, ax=axes)
    scale.set_label(fill(label, 24), size=TEXT)
    scale.ax.tick_params(labelsize=TEXT)
    dark = np.asarray(image.norm(values)) < 0.5
    places = {column: x for x, column in enumerate(columns)}
    for y, x in np.ndindex(values.shape) if numbers else ():
        colour = "white" if dark[y, x] else "black"
        text = f"{values[y, x]:.2f}"
        axes.text(x, y + 0.12, text, ha="center", va="center", fontsize=SMALL, color=colour)
    for y, column in stars:
        x = places[column]
        colour = "white" if dark[y, x] else "black"
        axes.plot(x, y - 0.32 * numbers, "*", color=colour, markersize=3.5, markeredgewidth=0)
    for column in framed:
        x = places[column]
        axes.plot(
            [x - 0.5, x - 0.5, x + 0.5, x + 0.5, x - 0.5],
            [-0.5, len(rows) - 0.5, len(rows) - 0.5, -0.5, -0.5],
            color=_COLOURS[1],
            linewidth=1.2,
            clip_on=False,
        )
    axes.set(xlabel=xlabel)
    axes.set_title(title, fontsize=TEXT + 1)
    axes.set_xticks(range(len(columns)), names, rotation=90 if upright else 0)
    axes.set_yticks(range(len(rows)), rows)
    return figure


def intervals(
    title: str, rows: Sequence[str], series: Sequence[Series], xlabel: str, log: bool = False
) -> Figure:
    """A point with its interval for each row and series, rows from top to bottom."""
    figure, (axes,) = new(0, 0.32 * len(rows) + 0.9)
    for i, one in enumerate(series):
        y = np.arange(len(rows)) + (i - (len(series) - 1) / 2) * 0.28
        axes.errorbar(
            one.values,
            y,
            xerr=[one.values - one.low, one.high - one.values],
            label=one.name,
            color=_COLOURS[i % len(_COLOURS)],
            marker=_SHAPES[i % len(_SHAPES)],
            linestyle="none",
            markersize=3.5,
            capsize=1.5,
            linewidth=0.9,
        )
    axes.set_title(title, fontsize=TEXT + 1)
    axes.set(xlabel=fill(xlabel, 40), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [fill(row, 28) for row in rows])
    if log:
        axes.set_xscale("log")
    axes.grid(axis="x", color="0.9")
    if len(series) > 1:
        _legend(figure, axes)
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file; the same figure gives the same bytes."""
    file = io.BytesIO()
    _save(figure, file, "svg")
    return file.getvalue()


def write(figure: Figure, *paths: Path) -> None:
    """Save the figure to each path, in the format its suffix names."""
    for path in paths:
        with replacing(path) as temporary:
            _save(figure, temporary, path.suffix.removeprefix("."))


def _save(figure: Figure, to: io.BytesIO | Path, form: str) -> None:
    import matplotlib

    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    plain: Any = undated.get(form, {"Software": None})
    style: Any = {**_STYLE, "svg.hashsalt": "lga_fast"}
    with matplotlib.rc_context(style):
        figure.savefig(to, format=form, dpi=200, metadata=plain, bbox_inches="tight")


def new(layers: int, height: float, ratios: Sequence[float] = (1,)) -> tuple[Figure, list[Axes]]:
    """A figure for so many layers, with panels of these heights above each other."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        width = COLUMN if layers <= _MANY else PAGE
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)
    for axes in panels[:, 0]:
        axes.tick_params(labelsize=TEXT)
    return figure, list(panels[:, 0])


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, where it takes no width."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        fontsize=TEXT,
        ncols=2,
        frameon=False,
    )


def ticks(places: Sequence[Any]) -> list[Any]:
    """Those to name, so that they do not touch: at most 16."""
    step = next(n for n in (1, 2, 4, 8, 16, len(places)) if len(places) <= 16 * n)
    return list(places[::step])
