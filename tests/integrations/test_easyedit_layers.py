"""Layers that EasyEdit's hparams leave open are chosen for the method that they are of."""

from __future__ import annotations

import pytest

import lga_fast
from lga_fast.integrations import easyedit
from lga_fast.integrations.easyedit import BaseEditor, MEMITHyperParams, select_layers
from tests.integrations.test_easyedit import ONE, TWO, hparams


@pytest.fixture(scope="module")
def loaded():
    model = lga_fast.load("atlas", device="cpu")
    return model.hf, model.tokenizer


def test_layers_are_chosen_for_the_method_of_the_hparams(loaded, monkeypatch):
    rankings = []

    def kept(*arguments, **options):
        rankings.append(lga_fast.select_layer(*arguments, **options))
        return rankings[-1]

    monkeypatch.setattr(easyedit._loading, "select_layer", kept)
    mass = hparams(loaded, MEMITHyperParams, layers=[0, 1], clamp_norm_factor=0.5)
    assert len(select_layers(mass, TWO, selector="reach")) <= 2
    select_layers(mass, TWO, selector="lga")  # has no editor
    about = rankings[0].provenance
    assert about["configuration"]["editor"] == "memit"
    assert about["configuration"]["config"]["clamp"] == 0.5
    assert "model_name" not in about["options"]["config"]


def test_layers_are_chosen_and_kept(loaded):
    editor = BaseEditor(hparams(loaded, layers="auto"))
    editor.edit(**ONE, verbose=False)
    assert editor.hparams.layers == [editor.edits[0].provenance["layer"]]
    mass = hparams(loaded, MEMITHyperParams, layers="auto")
    assert select_layers(mass, TWO, selector="fixed", layer=6) == [2, 3, 4, 5, 6]
    assert select_layers(mass, TWO, selector="fixed", layer=2) == [0, 1, 2]
    mass.layers = [1, 2]
    assert select_layers(mass, TWO, selector="fixed", layer=6) == [5, 6]
    assert select_layers(mass, TWO, selector="fixed", layer=6, window=1) == [6] != mass.layers
