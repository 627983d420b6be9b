"""Figures of many layers: every text can be read, whatever else there is to show."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from lga_fast.records import LayerRanking
from lga_fast.reports import figures, plot

COUNTS = pytest.mark.parametrize("layers", [8, 16, 17, 24, 30, 48, 80, 126])


def texts(figure: Figure) -> list[Text]:
    """What is written on the figure once it is drawn; ticks out of view are not."""
    FigureCanvasAgg(figure).draw()
    written = set(figure.findobj(Text))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                written -= {tick.label1, tick.label2}
    return [text for text in written if text.get_visible() and text.get_text().strip()]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    return [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]


def ranking(layers: int) -> LayerRanking:
    """One of which a third is excluded at both ends, by scores of up to six decades more."""
    draw = random.Random(layers)
    excluded = (*range(max(1, layers // 5)), *range(layers - layers // 8, layers))
    scores = [-(10 ** draw.uniform(-2, 1)) for _ in range(layers)]
    for layer in excluded:
        scores[layer] = 10 ** draw.uniform(2, 6) * (-1 if layer < layers // 2 else 1)
    order = sorted(set(range(layers)) - set(excluded), key=lambda layer: -scores[layer])
    return LayerRanking(
        layer=order[0],
        selector="lga",
        scores=tuple(scores),
        order=tuple(order),
        excluded=excluded,
        fences=(-15.0, 6.0),
        score_label="Σ ⟨∇ℓ(old), ∇ℓ(new)⟩  [nats² / weight²]",
        stability=tuple(0.2 * (layer in order[:5]) for layer in range(layers)),
        requests=30,
        provenance={"model": "gpt2-xl"},
    )


@COUNTS
def test_scores_of_excluded_layers_can_be_read(layers):
    made = ranking(layers)
    figure = plot.draw(made)
    assert not overlapping(figure)
    written = {text.get_text().strip() for text in texts(figure)}
    assert {f"{made.scores[layer]:.3g}" for layer in made.excluded} <= written
    low, high = figure.axes[0].get_ylim()
    assert high - low < 30, "the scale is that of the layers in the ranking"


def test_only_cut_bars_carry_their_score():
    made = replace(ranking(8), fences=None, excluded=(0,), scores=(-1.0,) * 8)
    assert "-1" not in {text.get_text().strip() for text in texts(plot.draw(made))}


@COUNTS
def test_names_of_marked_layers_can_be_read_side_by_side(layers):
    means = np.linspace(0, 1, layers)
    series = [figures.Series(name, means, means - 0.1, means + 0.1) for name in ("one", "other")]
    marks = {"golden, test": layers // 2, "golden, proxy": layers // 2 + 1, "lga": layers // 2}
    figure = figures.curves("A model", range(layers), series, "mean over facts", marks)
    assert not overlapping(figure)
    assert set(marks) <= {text.get_text() for text in texts(figure)}


@COUNTS
def test_cells_of_a_heat_map_can_be_read(layers):
    rows = [f"selector {row}" for row in range(9)]
    values = np.random.default_rng(0).random((9, layers))
    stars = [(row, layer) for row in range(0, 9, 2) for layer in range(layers)]  # ties
    figure = figures.heat("A model", rows, range(layers), values, "regret", stars, [0, 1])
    assert not overlapping(figure)


def test_names_of_data_sets_below_a_heat_map_can_be_read():
    columns = ["zsre", "wikibio", "wiki_counterfact", "wiki_recent", "counterfact_portability_gpt4"]
    figure = figures.heat("A model", columns, columns, np.eye(5), "regret", [(0, "zsre")])
    assert not overlapping(figure)


def test_the_longest_label_has_room_and_no_panel_is_empty():
    label = "how well edits serve, of 1: half rewrite accuracy, half probabilities of the others"
    plain = replace(ranking(8), score_label=label, stability=())
    figure = plot.draw(plain)
    assert len(figure.axes) == 1 and not overlapping(figure)
    figure = plot.draw(replace(plain, stability=(0.125,) * 8))
    assert len(figure.axes) == 2 and not overlapping(figure)
    for text in texts(figure):
        box = text.get_window_extent()
        assert box.y0 >= 0 and box.y1 <= figure.bbox.height, text.get_text()
