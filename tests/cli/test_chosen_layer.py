"""A layer that the user does not name is chosen for the editor that will change it."""

from __future__ import annotations

import json

import pytest
from running import run

from lga_fast.records import LayerRanking


@pytest.fixture
def where(saved_model, facts, tmp_path):
    few = ("--model", saved_model, "--data", facts, "--proxy", 4, "--limit", 1, "--steps", 1)
    return (*few, "--editor", "emmet", "--contexts", "It is. ", "--out", tmp_path / "out")


def test_it_is_chosen_for_the_edit(where):
    for options, clamp in (((), 4.0), (("--clamp", 0.5), 0.5)):
        made = json.loads(run("edit", *where, *options, "--json"))["provenance"]
        chosen = made["layer_choice"]["provenance"]["configuration"]
        assert (chosen["editor"], chosen["config"]["clamp"]) == ("emmet", clamp)
        assert chosen["config"] | {"contexts": None} == made["config"] | {"contexts": None}


def test_it_is_chosen_for_what_is_evaluated(where, tmp_path):
    config = tmp_path / "emmet.yaml"
    config.write_text("clamp_norm_factor: 0.75\nemmet_lambda: 0.2\nlayers: auto\n")
    text = plain(run("evaluate", *where, "--config", config))
    ranking = LayerRanking.from_json((tmp_path / "out" / "ranking.json").read_text())
    chosen = ranking.provenance["configuration"]
    assert (chosen["editor"], chosen["config"]["clamp"]) == ("emmet", 0.75)
    assert f"layer {int(ranking)} chosen by reach on 4 proxy facts" in text


def plain(panel: str) -> str:
    """Its words, without the frame."""
    return " ".join(panel.replace("│", " ").split())
