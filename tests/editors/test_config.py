"""Where an editor's options come from: which source wins, what is refused, what is said of it."""

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
import torch

import lga_fast
from lga_fast.editors import _config, _options, rome
from lga_fast.errors import DataError, EditError, LgaFastWarning, NoLayer, UnknownName
from lga_fast.options import Options, option

FACT = {"prompt": "The capital of France is", "subject": "France", "target_new": "Rome"}
PLAIN = {"contexts": ("", "The book. ")}
# In the shape of EasyEdit's hparams; YAML 1.1 reads 5e-1 and 1e-3 as text.
HPARAMS = """\
alg_name: "ROME"
model_name: "./models/some-model"
stats_dir: "./data/stats"
device: 0
layers: [3]
fact_token: "subject_last"
v_num_grad_steps: 4
v_lr: 5e-1
v_loss_layer: 4
v_weight_decay: 1e-3
clamp_norm_factor: 3
kl_factor: 0.0625
mom2_adjustment: false
context_template_length_params: [[5, 10], [10, 10]]
rewrite_module_tmp: "model.layers.{}.mlp.down_proj"
ln_f_module: "model.norm"
mom2_dataset: "wikipedia"
mom2_n_samples: 100000
fp16: true
"""


@pytest.fixture(scope="module")
def models():
    return {name: tiny.model(name, torch.float32) for name in ("gpt2", "qwen3")}


@pytest.fixture
def model(models):
    return models["gpt2"]


@pytest.fixture
def hparams(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(HPARAMS, encoding="utf-8")
    return path


def resolved(model, config=None, *, name="rome", layer=None, preset="easyedit", **options):
    """Editor, layer and provenance; layer 1 where nothing says which."""
    layer = 1 if config is None and layer is None else layer
    return _options.resolve(model, name, layer, preset, config, options)


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
    assert report["not_needed"]["mom2_n_samples"] == "second moments are measured on `corpus`"
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


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ('alg_name: "R-ROME"', EditError, "alg_name: it is for 'R-ROME', but the editor is 'rome'"),
        ("layers: [3, 4]", EditError, r"layers: rome edits one layer: expected one, got \[3, 4\]"),
        ("layers: []", EditError, r"layers: rome edits one layer: expected one, got \[\]"),
        ("layers: 3", EditError, "layers: rome edits one layer: expected one, got 3"),
        ("layers: [1.5]", EditError, "layers: expected a whole number of at least 0, got 1.5"),
        ("layers: [-1]", EditError, "layers: expected a whole number of at least 0, got -1"),
        ("fact_token: last", EditError, "fact_token: only 'subject_last' is supported, got 'last'"),
        (
            "context_template_length_params: [[5, 2]]",
            EditError,
            r"context_template_length_params: only .* is supported, got \[\[5, 2\]\]",
        ),
        ("v_num_grad_steps: 0", EditError, "v_num_grad_steps: .* number of at least 1, got 0"),
        ("v_num_grad_steps: 2.5", EditError, "v_num_grad_steps: expected a whole .* got 2.5"),
        ("v_lr: 0", EditError, "v_lr: expected a number above 0, got 0"),
        ("v_lr: -5e-1", EditError, "v_lr: expected a number above 0, got '-5e-1'"),
        ("v_lr: .nan", EditError, "v_lr: expected a number above 0, got nan"),
        ("v_lr: inf", EditError, "v_lr: expected a number above 0, got 'inf'"),
        ("v_lr: fast", EditError, "v_lr: expected a number above 0, got 'fast'"),
        ("v_lr:", EditError, "v_lr: expected a number above 0, got None"),
        ("v_lr: true", EditError, "v_lr: expected a number above 0, got True"),
        ("clamp_norm_factor: 0", EditError, "clamp_norm_factor: expected a number above 0, got 0"),
        ("v_weight_decay: -1", EditError, "v_weight_decay: .* of at least 0, got -1"),
        ("mom2_adjustment: 1", EditError, "mom2_adjustment: expected true or false, got 1"),
        ("v_lr: 0.5\nlr: 0.4", DataError, "lr: v_lr sets the same; keep one of the two"),
        ("v_lr: 0.5\nv_lr: 0.4", DataError, "expected a config .*: v_lr is there twice"),
        ("v_lr: [0.5", DataError, "expected a config in YAML or JSON: while parsing"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_by_name(model, hparams, changed, error, message):
    key = changed.partition(":")[0]
    lines = [changed if line.startswith(f"{key}:") else line for line in HPARAMS.splitlines()]
    assert changed in lines
    hparams.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(error, match=f"tiny.yaml: {message}"):
        resolved(model, hparams)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.yaml", None, "expected a config in YAML or JSON: .*No such file"),
        ("list.yaml", "- steps\n- 3\n", "expected keys with values, got .'steps', 3."),
        ("empty.yaml", "", "expected keys with values, got None"),
        ("broken.json", '{"steps": 3', "expected a config in YAML or JSON: Expecting"),
        ("twice.json", '{"steps": 3, "steps": 4}', "expected a config .*: steps is there twice"),
        ("latin.yaml", b"contexts: [\xe9]", "expected a config .* can't decode byte 0xe9"),
    ],
)
def test_what_is_no_config_is_refused(model, tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"{name}: {message}"):
        resolved(model, path)


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


def test_arguments_are_checked_like_the_rest(model):
    with pytest.raises(EditError, match="argument: steps: expected a whole number .* got 0"):
        lga_fast.edit(model, [FACT], "rome", layer=1, steps=0)
    with pytest.raises(EditError, match="argument: contexts: expected a list, each text, got 'a'"):
        lga_fast.edit(model, [FACT], "rome", layer=1, contexts="a")
    with pytest.raises(EditError, match="argument: corpus: .* that exists, got 'no/such.txt'"):
        lga_fast.edit(model, [FACT], "rome", layer=1, corpus="no/such.txt")
    with pytest.raises(EditError, match="argument: seed: .* from 0 to 9223372036854775807, got -1"):
        lga_fast.edit(model, [FACT], "rome", layer=1, seed=-1)
    with pytest.raises(UnknownName, match="editor 'rome' has no option rate"):
        lga_fast.edit(model, [FACT], "rome", layer=1, rate=1)
    with pytest.raises(UnknownName, match=r"no preset 'papers'. There are: easyedit, original"):
        lga_fast.edit(model, [FACT], "rome", layer=1, preset="papers")


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
