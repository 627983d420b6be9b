"""Figures of studies: curves over layers, heat maps, points with their intervals."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from lga_fast.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, for colour-blind readers; shapes repeat what colours say.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")


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
    figure, axes = _new(max(6.0, 0.16 * len(layers)), 3.8)
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
            markersize=4,
            capsize=2,
            linewidth=1.2,
        )
    for i, (name, layer) in enumerate(marks.items()):  # each on a line of its own
        axes.axvline(layer, color="0.6", linewidth=1, zorder=0)
        axes.annotate(
            name,
            (layer, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3 + 10 * i),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set(xlabel="layer", ylabel=ylabel, xticks=ticks(layers))
    axes.set_title(title, pad=6 + 10 * len(marks))
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
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
    width = (0.42 if numbers else 0.2) * len(columns) + 3
    figure, axes = _new(max(6.0, width), max(3.2, 0.38 * len(rows) + 1.8))
    image = axes.imshow(values, cmap="cividis", aspect="auto", vmin=0)
    figure.colorbar(image, ax=axes, label=label)
    dark = np.asarray(image.norm(values)) < 0.5
    places = {column: x for x, column in enumerate(columns)}
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            star = "☆" if (y, columns[x]) in stars else ""
            text = f"{star}{value:.2f}" if numbers else star
            colour = "white" if dark[y, x] else "black"
            axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
    for column in framed:
        x = places[column]
        axes.plot(
            [x - 0.5, x - 0.5, x + 0.5, x + 0.5, x - 0.5],
            [-0.5, len(rows) - 0.5, len(rows) - 0.5, -0.5, -0.5],
            color=_COLOURS[1],
            linewidth=2,
            clip_on=False,
        )
    axes.set(xlabel=xlabel, title=title)
    names = [str(c) if c in ticks(columns) else "" for c in columns]
    upright = max(map(len, names)) * sum(map(bool, names)) > 7 * figure.get_figwidth()  # 7 per inch
    axes.set_xticks(range(len(columns)), names, rotation=90 if upright else 0)
    axes.set_yticks(range(len(rows)), rows)
    return figure


def intervals(
    title: str, rows: Sequence[str], series: Sequence[Series], xlabel: str, log: bool = False
) -> Figure:
    """A point with its interval for each row and series, rows from top to bottom."""
    figure, axes = _new(7.0, 0.3 * len(rows) + 1.6)
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
            markersize=5,
            capsize=2,
        )
    axes.set(xlabel=xlabel, title=title, ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), rows)
    if log:
        axes.set_xscale("log")
    axes.grid(axis="x", color="0.9")
    if len(series) > 1:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
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
    with matplotlib.rc_context({"svg.hashsalt": "lga_fast"}):
        figure.savefig(to, format=form, dpi=150, metadata=plain, bbox_inches="tight")


def _new(width: float, height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def ticks(places: Sequence[Any]) -> list[Any]:
    """Those to name: of more than 24 every fourth."""
    return [place for i, place in enumerate(places) if len(places) <= 24 or i % 4 == 0]
