"""Results as a notebook shows them, and their short texts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import tiny

import lga_fast
from lga_fast.records import LayerRanking
from lga_fast.reports import evaluation, plot

FACTS = [
    {"prompt": "The capital of France is", "subject": "France", "target_new": "Rome <b>"},
    {"prompt": "The tower stands in", "subject": "tower", "target_new": "New York"},
]
QUICK = {"layer": 1, "contexts": (), "steps": 2}


@pytest.fixture(scope="module")
def results():
    model = tiny.model("gpt2")
    scores = lga_fast.score_layers(model, FACTS)
    return {
        "scores": (scores, "LayerScores(2 requests, 5 layers, 4 parameters)", "Σ φ"),
        "ranking": (
            lga_fast.select_layer(model, FACTS, "fixed", layer=2),
            "LayerRanking(fixed: layer 2 of 5, 2 facts)",
            "golden layer",
        ),
        "edit": (
            lga_fast.edit(model, FACTS, **QUICK),
            "WeightEdit(r_rome: transformer.h.1.mlp.c_proj.weight 32x48 rank 2)",
            "Rome &lt;b&gt;",
        ),
        "evaluation": (
            lga_fast.evaluate(model, FACTS, metrics=["rewrite"], **QUICK),
            "Evaluation(2 cases: rewrite ",
            "rewrite",
        ),
    }


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
@pytest.mark.parametrize("name", ["scores", "ranking", "edit", "evaluation"])
def test_results_are_shown_in_a_notebook(name, results):
    result, text, part = results[name]
    assert repr(result).startswith(text) and len(repr(result)) < 200
    html = result._repr_html_()
    HTMLParser().feed(html)
    assert html.startswith("<pre") and part in re.sub(r"</?span[^>]*>", "", html)


def test_what_was_made_by_hand_has_its_text_alone():
    assert (
        LayerRanking(layer=1, selector="x", scores=(0.0, 1.0), order=(1, 0))._repr_html_() is None
    )


def test_an_evaluation_is_json(results):
    result = results["evaluation"][0]
    assert result.to_json() == evaluation.to_json(result)
    assert len(json.loads(result.to_json())["cases"]) == 2


def test_figures_leave_matplotlib_as_it_was(results, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams), matplotlib.get_backend(auto_select=False)
    plot.write(results["ranking"][0], tmp_path / "x.svg", tmp_path / "x.png")
    assert (dict(matplotlib.rcParams), matplotlib.get_backend(auto_select=False)) == before
