"""race: what it edits, what it measures, what it says; on small random models."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from lga_fast import select_layer
from lga_fast.errors import EditError, ScoringError
from lga_fast.selectors.race import Selector
from lga_fast.sweep.run import sweep
from lga_fast.sweep.successive_halving import METRICS, VALUES, score
from tests.studies.facts import CHEAP, NO_SUBJECT, REQUESTS


@pytest.fixture
def cheap(tmp_path):
    """Options of a race whose edits take four steps."""
    config = tmp_path / "cheap.json"
    config.write_text(json.dumps(CHEAP))
    return {"config": str(config)}


def test_it_measures_what_a_sweep_of_cheap_edits_measures(cheap):
    model = tiny.model("gpt2", torch.float32)
    swept = sweep(model, REQUESTS, metrics=METRICS, **CHEAP | {"bare_value": True})
    ranking = select_layer(model, [NO_SUBJECT, *REQUESTS], "race", **cheap)
    table = np.stack([swept.acc[name] for name in VALUES])  # [value fact layer]
    facts = np.random.default_rng(42).permutation(3)
    for one in ranking.provenance["rounds"]:
        values = table[:, facts[: one["facts"]]][:, :, one["layers"]]
        expected = [score(values[:, :, i]).mean() for i in range(len(one["layers"]))]
        assert one["means"]["score"] == pytest.approx(expected, rel=1e-3)
        assert one["means"]["score"] == sorted(one["means"]["score"], reverse=True)
        assert one["means"]["rewrite"] == pytest.approx(values[0].mean(0))
    assert ranking.provenance["rounds"][0]["facts"] == 2
    assert sorted(ranking.provenance["rounds"][0]["layers"]) == [0, 1, 2, 3]


def test_it_says_what_it_did(cheap):
    model = tiny.model("gpt2")
    ranking = select_layer(model, [NO_SUBJECT, *REQUESTS], "race", **cheap)
    about = ranking.provenance
    assert ranking.layer == ranking.order[0] == int(np.argmax(ranking.scores))
    assert sorted(ranking.order) == [0, 1, 2, 3] and ranking.excluded == (4,)
    assert "Not raced: layer 4, where an edit reaches no later token." in ranking.notes
    assert [one.case_id for one in ranking.dropped] == ["d"] and ranking.requests == 3
    # CHEAP has one context beside the bare prompt
    assert about["cheaper"] == 4 / 3 and about["edits_brute_force"] == 15
    assert about["edits"] <= 12
    # Each edit has the bare prompt's row and the KL's, in four forwards with three backwards, and
    # reads the key behind one context.
    assert about["sequence_forwards"] == 15 * about["edits"]
    assert ranking.confidence is not None and 0 <= ranking.confidence <= 1
    (note,) = (note for note in ranking.notes if "cheap edits" in note)
    assert f"{about['edits']} cheap edits at 4 layers" in note and "brute force's 15" in note


def test_facts_without_probes_do(cheap):
    bare = [replace(request, probes=(), target_old=None) for request in REQUESTS]
    ranking = select_layer(tiny.model("llama"), bare, "race", **cheap)
    last = ranking.provenance["rounds"][-1]["means"]
    assert set(last["rephrase"]) == set(last["locality"]) == {None}
    assert np.isfinite(ranking.scores).all()


def test_the_draw_is_of_the_seed(cheap):
    model = tiny.model("gpt2")
    one, same = (select_layer(model, REQUESTS, "race", seed=3, **cheap) for _ in range(2))
    assert one.scores == same.scores and one.provenance["rounds"] == same.provenance["rounds"]


def test_a_single_fact_is_edited_at_every_layer(cheap):
    ranking = select_layer(tiny.model("gpt2"), REQUESTS[:1], "race", **cheap)
    assert ranking.provenance["edits"] == 4 and len(ranking.provenance["rounds"]) == 1


@pytest.mark.parametrize(
    ("layers", "facts", "cheaper", "edits"),
    [
        (29, 30, 23 / 3, 220),  # its share of ROME's contexts
        (29, 30, 8 / 3, 116),  # EMMET has fewer, and chose layers on two and three facts
        (29, 10, 23 / 3, 116),  # few facts
    ],
)
def test_four_edits_a_layer_are_always_allowed(layers, facts, cheaper, edits):
    assert Selector().budget(layers, facts, cheaper) == edits


def test_what_it_cannot_do_is_refused(cheap):
    with pytest.raises(ScoringError, match="race: none of 1 requests has its subject in its prom"):
        select_layer(tiny.model("gpt2"), [NO_SUBJECT], "race", **cheap)
    with pytest.raises(EditError, match="experts"):
        select_layer(tiny.model("qwen3_moe"), REQUESTS, "race")
