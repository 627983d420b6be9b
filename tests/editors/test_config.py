"""Where an editor's options come from: which source wins, and what is said of it."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from types import MappingProxyType
from typing import Literal

import numpy as np
import pytest
import tiny

import lga_fast
from lga_fast.editors import _config, _options, rome
from lga_fast.errors import EditError, LgaFastWarning, NoLayer
from lga_fast.options import Options, option
from tests.editors.configs import FACT, HPARAMS, PLAIN, resolved


def test_a_file_of_easyedit_is_taken_as_it_is(model, hparams):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change = lga_fast.edit(model, [FACT], "rome", config=hparams, **PLAIN)
    made, source = change.provenance, change.provenance["config_source"]
    assert made["layer"] == 3 and len(made["losses"][0]) <= 4
    expected = {"steps": 4, "lr": 0.5, "weight_decay": 1e-3, "clamp": 3.0, "kl_factor": 0.0625}
    assert {key: made["config"][key] for key in expected} == expected
    assert made["config"].keys() == {f.name for f in fields(rome.Editor)}
    assert {source[key] for key in [*expected, "mom2_adjustment", "layer"]} == {str(hparams)}
    assert (source["contexts"], source["seed"]) == ("argument", "default")
    report = made["config_report"]
    assert report["unknown"] == [] and report["preset"] == "easyedit"
    assert report["not_needed"]["v_loss_layer"] == "rome has no such option"
    assert report["not_needed"]["mom2_n_samples"].startswith("second moments are read from `stats_")
    assert report["not_needed"]["stats_dir"] == (
        "there is no ./data/stats: second moments are measured"
    )
    told = {*report["not_needed"], "alg_name", "layers", *_config._FIELDS}
    assert told >= {line.partition(":")[0] for line in HPARAMS.splitlines()}, "no key unaccounted"


def test_what_was_used_repeats_the_edit(model, hparams):
    change = lga_fast.edit(model, [FACT], "rome", config=hparams, **PLAIN)
    used = json.loads(json.dumps(change.provenance["config"]))
    again = lga_fast.edit(model, [FACT], "rome", layer=3, config=used)
    assert again.checksum == change.checksum
    assert again.provenance["config_source"]["steps"] == "config"


SOURCES = ["default", "preset: original", "published: gpt2", "model", "config", "argument"]


@pytest.mark.parametrize(("weaker", "stronger"), [*combinations(range(6), 2)])
def test_the_stronger_source_wins(weaker, stronger, monkeypatch):
    """Each pair of sources; every source says its own place in the order as the value."""
    on = {SOURCES[weaker]: weaker + 10, SOURCES[stronger]: stronger + 10}
    model = tiny.model("gpt2")
    table = {}
    for source, key in (("preset: original", "*"), ("published: gpt2", "gpt2")):
        if source in on:
            table[key] = {"steps": on[source]}
    monkeypatch.setattr(rome.Editor, "published_hparams", {"original": table})
    model.editing = {"rome": {"steps": on["model"]}} if "model" in on else {}
    config = {"v_num_grad_steps": on["config"]} if "config" in on else None
    options = {"steps": on["argument"]} if "argument" in on else {}
    editor, _, about = resolved(model, config, layer=1, preset="original", **options)
    assert (editor.steps, about["config_source"]["steps"]) == (stronger + 10, SOURCES[stronger])


def test_values_by_family_and_by_size(models):
    gpt2 = models["gpt2"]
    editor, _, about = resolved(gpt2)
    assert (editor.steps, editor.weight_decay, editor.clamp) == (20, 0.5, 4.0)
    source = about["config_source"]
    assert (source["steps"], source["clamp"], source["layer"]) == (
        "published: gpt2",
        "default",
        "argument",
    )
    assert about["config_report"]["notes"] == []
    medium = tiny.model("gpt2")
    medium.name = "openai-community/GPT2-medium"
    editor, _, about = resolved(medium, preset="original")
    assert (editor.steps, editor.clamp, editor.mom2_adjustment) == (20, 3.0, True)
    assert about["config_source"]["clamp"] == "published: gpt2-medium"
    assert resolved(medium)[0].clamp == 4.0, "only the original code lists the size"


def test_a_family_that_no_peer_lists_gets_a_default_that_says_so(models):
    editor, _, about = resolved(models["qwen3"])
    assert (editor.steps, editor.weight_decay) == (25, 1e-3)
    assert about["config_source"]["steps"] == "default"
    assert about["config_report"]["notes"] == [
        "no published config lists qwen3: lga_fast's defaults apply",
    ]


@pytest.mark.parametrize("name", ["rome", "r_rome"])
def test_the_presets_differ_in_the_second_moment(name, models):
    for model in models.values():
        assert not resolved(model, name=name)[0].mom2_adjustment
        editor, _, about = resolved(model, name=name, preset="original")
        assert editor.mom2_adjustment
        assert about["config_source"]["mom2_adjustment"] == "preset: original"
        assert about["config_report"]["preset"] == "original"


def test_files_in_json_and_mappings_do_as_well(model, tmp_path):
    asked = {"v_lr": 0.25, "steps": "7", "contexts": ["", "So. "], "corpus": None, "layer": 2}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(asked, indent="\t"), encoding="utf-8-sig")
    for config, source in ((path, str(path)), (str(path), str(path)), (asked, "config")):
        editor, layer, about = resolved(model, config)
        assert (editor.lr, editor.steps, editor.contexts) == (0.25, 7, ("", "So. "))
        assert layer == 2 and about["config_source"]["layer"] == source
    assert "v_lr" in asked, "what was given stays as it was"


def test_unknown_keys_are_said(model):
    with pytest.warns(
        LgaFastWarning, match=r"^config: unknown keys .* v_lrr \(did you mean v_lr\?\), 5$"
    ):
        change = lga_fast.edit(
            model, [FACT], "rome", layer=1, config={"v_lrr": 1, 5: 1}, steps=1, **PLAIN
        )
    assert change.provenance["config_report"]["unknown"] == ["v_lrr", "5"]


def test_the_warning_points_at_the_caller(model):
    with pytest.warns(LgaFastWarning, match="unknown") as caught:
        lga_fast.edit(model, [FACT], "rome", layer=1, config={"x": 1}, steps=1, **PLAIN)
    assert caught[0].filename == __file__


def test_advice_of_the_model_for_other_editors_is_reported(model, monkeypatch):
    monkeypatch.setattr(model, "editing", {"rome": {"clamp": 16, "nullspace": 1}})
    editor, _, about = resolved(model)
    assert editor.clamp == 16.0
    assert about["config_report"]["not_needed"] == {
        "nullspace": "recommended by the model; rome has no such option"
    }


def test_a_second_edit_warns_again_and_each_note_once(model):
    twice = [FACT | {"prompt": f"France and {place}"} for place in ("France", "France")]
    for _ in range(2):
        with pytest.warns(LgaFastWarning) as caught:
            changes = lga_fast.edit_each(model, twice, "rome", layer=1, steps=1, **PLAIN)
        notes = [note for change in changes for note in change.provenance["notes"]]
        assert [str(w.message) for w in caught] == notes and len(notes) == 2


def test_the_layer_is_the_arguments_then_the_files(model, hparams):
    assert resolved(model, hparams)[1] == 3
    _, layer, about = resolved(model, hparams, layer=np.int64(2))
    assert (layer, about["config_source"]["layer"]) == (2, "argument")
    assert resolved(model, {"layers": [3, 4]}, layer=2)[1] == 2, "the file's are not asked for"
    with pytest.raises(NoLayer, match="no layer to edit: give layer="):
        lga_fast.edit(model, [FACT], "rome")
    with pytest.raises(EditError, match="'Spain' is not in the prompt"):  # all else comes first
        lga_fast.edit(model, [FACT | {"subject": "Spain"}], "rome")
    with pytest.raises(EditError, match="layer 7: tiny-gpt2 has layers 0 to 4"):
        lga_fast.edit(model, [FACT], "rome", config={"layers": [7]})
    with pytest.raises(EditError, match="argument: layer: expected a whole number .*, got 1.5"):
        lga_fast.edit(model, [FACT], "rome", layer=1.5)


@dataclass(frozen=True)
class Mass(Options):
    """An editor over several layers that `_options` has never seen."""

    published_hparams = MappingProxyType({"easyedit": {"gpt2": {"layers": [1, 2]}}})
    layers: tuple[int, ...] = option((), "Layers.", min=0)
    mom2_weight: float = option(1.0, "Weight.", above=0)
    loss_layer: int | None = option(None, "Layer.")
    policy: Literal["always", "never"] = option("always", "Policy.")
    batch_size: int = option(1, "Size.")


def test_new_fields_need_no_change_here(models, monkeypatch):
    monkeypatch.setattr(rome, "Editor", Mass)
    asked = {"layers": [2, 4], "mom2_update_weight": "2e4", "v_loss_layer": 4, "batch_size": 8}
    editor, layer, about = resolved(models["gpt2"], asked)
    assert asdict(editor) == asdict(Mass((2, 4), 2e4, 4, "always", 8))
    assert layer == 4 and about["config_report"]["not_needed"] == {}
    assert _options.resolve(models["gpt2"], "rome", None, "easyedit", None, {})[1] == 2
    editor, layer, _ = resolved(models["qwen3"], asked, layer=3)
    assert (editor.layers, layer) == ((), 3), "the argument wins over the file's layers"
    with pytest.raises(EditError, match=r"layers\[1\]: expected a whole .* at least 0, got -1"):
        resolved(models["gpt2"], {"layers": [2, -1]})
    with pytest.raises(EditError, match="policy: expected one of 'always', 'never', got 'once'"):
        resolved(models["gpt2"], policy="once")
