"""Brute force: the best mean wins, ties by the next metric."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny

from lga_fast import select_layer
from lga_fast.errors import ScoringError
from lga_fast.selectors import brute_force
from lga_fast.sweep.run import sweep
from tests.studies.facts import CHEAP, NO_SUBJECT, REQUESTS
from tests.studies.sweeps import sweep_of

REWRITE = [[1.0, 0.5, 1.0, 0.0, 1.0], [1.0, 1.0, 0.5, 0.0, 1.0]]
REPHRASE = [[0.0, 1.0, 1.0, 1.0, 0.0], [np.nan] * 5]
LOCALITY = [[0.5, 1.0, 1.0, 1.0, 0.5], [0.5, 1.0, 1.0, 1.0, 0.6]]


def rank(monkeypatch, found, **options):
    calls = []
    monkeypatch.setattr(brute_force, "sweep", lambda *a, **k: calls.append((a, k)) or found)
    return brute_force.Selector(**options).rank(tiny.model("gpt2"), REQUESTS), calls


def test_ties_go_by_rephrase_then_locality_then_the_lowest(monkeypatch):
    found = sweep_of(REWRITE, rephrase=REPHRASE, locality=LOCALITY)
    ranking, _ = rank(monkeypatch, found)
    assert ranking.order == (4, 0, 1, 2, 3) and ranking.scores == (1.0, 0.75, 0.75, 0.0, 1.0)
    assert "Layer 4 is the last one" in ranking.notes[0]
    assert sum(ranking.stability) == pytest.approx(1) and ranking.stability[3] == 0
    ranking, _ = rank(monkeypatch, sweep_of(REWRITE))
    assert ranking.order == (0, 4, 1, 2, 3)


def test_another_metric_is_asked_for_and_decides(monkeypatch):
    found = sweep_of(REWRITE, rephrase=REPHRASE, locality=LOCALITY)
    ranking, calls = rank(monkeypatch, found, metric="locality", editor="rome", preset="original")
    assert ranking.order == (1, 2, 3, 4, 0) and ranking.score_label.startswith("mean locality")
    (((_, _, editor, layers, metrics), more),) = calls
    assert (editor, layers, more) == ("rome", None, {"preset": "original", "config": None})
    assert metrics == ("rewrite", "rephrase", "locality")
    with pytest.raises(ScoringError, match="no request has a value 'portability'"):
        rank(monkeypatch, found, metric="portability")


def test_layers_that_were_not_tried_are_excluded(monkeypatch):
    ranking, _ = rank(monkeypatch, sweep_of([[0.2, 0.4]], layers=(1, 3)), layers=(1, 3))
    assert ranking.order == (3, 1) and ranking.excluded == (0, 2, 4)
    assert ranking.scores == (0, 0.2, 0, 0.4, 0) and ranking.stability == (0, 0, 0, 1, 0)


def test_it_is_the_sweeps_means(tmp_path):
    model, config = tiny.model("gpt2"), tmp_path / "cheap.json"
    config.write_text(json.dumps(CHEAP))
    requests = [*REQUESTS, NO_SUBJECT]
    ranking = select_layer(
        model, requests, "brute_force", config=str(config), metric="locality", layers=(1, 2, 3)
    )
    found = sweep(model, REQUESTS, layers=[1, 2, 3], **CHEAP)
    means = np.nanmean(found.acc["locality"], 0)
    np.testing.assert_allclose(ranking.scores, [0, *means, 0])
    assert ranking.layer == 1 + means.argmax() and ranking.requests == 3
    assert [d.case_id for d in ranking.dropped] == ["d"]
    assert ranking.provenance["sequence_forwards"] > 0
