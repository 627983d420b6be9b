"""A ranking as a figure: scores with fences, and how stable the choice is."""

from __future__ import annotations

import math
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from lga_fast import extras
from lga_fast.records import LayerRanking
from lga_fast.reports import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, for colour-blind readers; hatching repeats what colour says.
_CHOSEN, _KEPT, _EXCLUDED, _FENCE = "#009E73", "#56B4E9", "0.6", "#D55E00"


def write(ranking: LayerRanking, *paths: Path) -> None:
    """Draw the ranking once and save it to each path, in the format its suffix names.

    Raises:
        LgaFastError: matplotlib is not installed.
    """
    extras.need("a figure of a ranking", ["matplotlib"], "plot")
    figures.write(draw(ranking), *paths)


def draw(ranking: LayerRanking) -> Figure:
    """Scores above and, if there are any, shares of resamples [%] below, both by layer.

    Bars of excluded layers that leave the range of the others are cut and carry their score,
    upright, so that neighbours' do not overlap.
    """
    layers = range(len(ranking.scores))
    figure, every = figures.new(len(layers), 3.0, [3, 1] if ranking.stability else [1])
    top = every[0]
    per_layer = 0.8 * 72 * figure.get_figwidth() / len(layers)  # points
    rows = math.ceil(1.4 * figures.SMALL / per_layer)  # of labels, taken in turn by neighbours
    for axes in every:  # also where the bar itself is too small to be seen
        axes.axvspan(ranking.layer - 0.5, ranking.layer + 0.5, color=_CHOSEN, alpha=0.2, zorder=0)
    colours = [_CHOSEN if layer == ranking.layer else _KEPT for layer in layers]
    bars = top.bar(layers, ranking.scores, color=colours, edgecolor="black", linewidth=0.5)
    limits = _limits(ranking)
    for i, layer in enumerate(ranking.excluded):
        bars[layer].set(hatch="///", facecolor="white", edgecolor=_EXCLUDED)
        score = ranking.scores[layer]
        if not limits[0] <= score <= limits[1]:
            end, side, inwards = (1, "top", -1) if score > 0 else (0, "bottom", 1)
            top.annotate(
                f"{score:.3g}",
                (layer, end),
                xycoords=("data", "axes fraction"),
                xytext=(0, inwards * (3 + i % rows * 6.2 * figures.SMALL)),
                textcoords="offset points",
                rotation=90,
                ha="center",
                va=side,
                fontsize=figures.SMALL,
                zorder=2.2,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
    bars[ranking.layer].set_label(f"golden layer {ranking.layer}")
    if ranking.excluded:
        bars[ranking.excluded[0]].set_label("excluded")
    for i, fence in enumerate(ranking.fences or ()):
        label = "Tukey's fences" if i == 0 else None
        top.axhline(fence, color=_FENCE, linestyle="--", linewidth=1, label=label)
    top.axhline(0, color="black", linewidth=0.8)
    top.set(xlim=(-0.7, len(layers) - 0.3), ylim=limits, ylabel=fill(ranking.score_label, 34))
    title = f"{ranking.selector} on {ranking.provenance['model']}, {ranking.requests} proxy facts"
    top.set_title(title, pad=16, fontsize=figures.TEXT + 1)
    top.legend(
        fontsize=figures.TEXT,
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=3,
        columnspacing=1,
        borderaxespad=0.2,
        frameon=False,
    )
    if ranking.stability:
        every[1].bar(layers, [100 * share for share in ranking.stability], color=colours)
        every[1].set(ylabel="resamples [%]", ylim=(0, 100))
    every[-1].set(xlabel="layer", xticks=figures.ticks(layers))
    return figure


def _limits(ranking: LayerRanking) -> tuple[float, float]:
    """Range that shows the kept layers well; layers far outside it are cut and labelled."""
    shown = [0.0, *(ranking.scores[layer] for layer in ranking.order), *(ranking.fences or ())]
    margin = 0.12 * (max(shown) - min(shown) or 1.0)
    return min(shown) - margin, max(shown) + margin
