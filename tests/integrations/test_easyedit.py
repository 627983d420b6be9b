"""EasyEdit's editor, hparams and arguments: same names and shapes, what is not there refused."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pytest
import torch

import lga_fast
from lga_fast.errors import DataError, EditError, LgaFastWarning, UnknownName
from lga_fast.integrations import easyedit
from lga_fast.integrations.easyedit import (
    BaseEditor,
    MEMITHyperParams,
    R_ROMEHyperParams,
    ROMEHyperParams,
    summary_metrics,
)
from lga_fast.metrics import fluency

QUICK = {"v_num_grad_steps": 10, "contexts": []}
ONE = {
    "prompts": "The Eiffel Tower is located in the city of",
    "subject": "Eiffel Tower",
    "target_new": "Rome",
}
TWO = {
    "prompts": [ONE["prompts"], "The Colosseum is located in the city of"],
    "subject": ["Eiffel Tower", "Colosseum"],
    "target_new": ["Rome", "Bern"],
}
PROBES = {
    "rephrase_prompts": ["The Eiffel Tower stands in", "The Colosseum stands in"],
    "locality_inputs": {
        "near": {
            "prompt": ["The Louvre is in", ["Big Ben is in", "The Prado is in"]],
            "ground_truth": ["Paris", ["London", "Madrid"]],
        },
    },
    "portability_inputs": {
        "hop": {"prompt": [None, "Bern's sight is the"], "ground_truth": [None, "Colosseum"]}
    },
}


@pytest.fixture(scope="module")
def loaded():
    model = lga_fast.load("atlas", device="cpu")
    return model.hf, model.tokenizer


def hparams(loaded, kind=R_ROMEHyperParams, **other):
    return kind(**{"model_name": loaded, "layers": [0]} | QUICK | other)


def test_results_have_easyedits_shape(loaded):
    editor = BaseEditor.from_hparams(hparams(loaded))
    before = copy.deepcopy(loaded[0].state_dict())
    metrics, model, weights = editor.edit(**TWO, **PROBES, ground_truth=None, verbose=False)
    assert model is loaded[0] is editor.model and editor.tok is loaded[1]
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items()), "as in EasyEdit"
    assert json.loads(json.dumps(metrics)) == metrics
    first, second = metrics
    assert [one["case_id"] for one in metrics] == [0, 1] and first["time"] > 0
    assert first["requested_rewrite"] == {
        "prompt": ONE["prompts"],
        "target_new": "Rome",
        "ground_truth": None,
        "subject": "Eiffel Tower",
        "rephrase_prompt": "The Eiffel Tower stands in",
        "locality": {"near": {"prompt": "The Louvre is in", "ground_truth": "Paris"}},
        "portability": {},
    }
    assert first["post"]["rewrite_acc"] == [1.0] != first["pre"]["rewrite_acc"]
    assert len(second["post"]["locality"]["near_acc"]) == 2
    assert second["post"]["portability"].keys() == {"hop_acc"} and not first["post"]["portability"]
    assert "near_acc" not in first["pre"]["locality"]
    (name,) = weights
    assert torch.equal(weights[name], before[name])
    with editor.editable.edited(editor.edits[0]):
        assert not torch.equal(model.get_parameter(name), before[name])


def test_a_sequence_stays_and_follows_what_was_before(loaded):
    hf, tokenizer = copy.deepcopy(loaded[0]), loaded[1]
    editor = BaseEditor(hparams((hf, tokenizer)))
    name = "transformer.h.0.mlp.c_proj.weight"
    before = hf.get_parameter(name).detach().clone()
    metrics, model, weights = editor.edit(**TWO, sequential_edit=True, verbose=False)
    assert all(one["post"]["rewrite_acc"] == [1.0] for one in metrics)
    after = model.get_parameter(name).detach().clone()
    first, second = (change.deltas[name] for change in editor.edits)
    between = before + (first.left @ first.right.T).T
    torch.testing.assert_close(weights[name], between, msg="before the last edit")
    torch.testing.assert_close(after, between + (second.left @ second.right.T).T)
    editor.edit(**ONE | {"target_new": "Bern"}, sequential_edit=True, verbose=False)  # and goes on
    assert not torch.equal(model.get_parameter(name), after)


@pytest.mark.filterwarnings("ignore:request .* of its change is written")
def test_batches_are_edited_together(loaded, monkeypatch):
    editor = BaseEditor(hparams(loaded, MEMITHyperParams, batch_size=2, layers=[0, 1]))
    three = {name: [*column, column[0]] for name, column in TWO.items()}
    three["target_new"][2] = "Oslo"
    metrics, *_ = editor.batch_edit(
        three.pop("prompts"), three.pop("target_new"), verbose=False, **three
    )
    assert [one["case_id"] for one in metrics] == [0, 1, 0]
    assert len(editor.edits) == 2 and editor.hparams.batch_size == 2
    assert list(editor.edits[0].deltas) == [f"transformer.h.{n}.mlp.c_proj.weight" for n in (0, 1)]
    with pytest.raises(EditError, match=r"batch_size is 2: edit\(\) takes one fact at a time"):
        editor.edit(**ONE)
    with pytest.raises(EditError, match="batch_edit: R-ROME edits one fact at a time"):
        BaseEditor(hparams(loaded)).batch_edit(**TWO)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train_ds": [1]}, EditError, r"edit: train_ds=\[1\]: lga_fast has no such argument"),
        ({"metric_kwargs": [1]}, EditError, "metric_kwargs"),
        ({"eval_metric": "ppl"}, EditError, "eval_metric='ppl'"),
        ({"anything": 1}, EditError, "anything=1"),
        ({"target_new": ["Rome"]}, DataError, "target_new: expected 2 values, one for each prompt"),
        (
            {"rephrase_prompts": ["x"] * 3},
            DataError,
            "rephrase_prompt: expected 2 values, .* got 3",
        ),
        (
            {"locality_inputs": {"near": {"prompt": ["x"], "ground_truth": ["y"]}}},
            DataError,
            "locality_inputs.near.prompt: expected 2 values",
        ),
        ({"subject": None}, EditError, "R-ROME edits at the subject's last token, which 2 of 2"),
        ({"pre_edit": [{}]}, DataError, "pre_edit: expected metrics of 2 requests, got 1"),
    ],
)
def test_what_cannot_be_followed_is_refused(loaded, arguments, error, message):
    with pytest.raises(error, match=message):
        BaseEditor(hparams(loaded)).edit(**TWO | arguments)


def test_what_easyedit_ignores_too_is_taken(loaded, tmp_path, capsys):
    editor = BaseEditor(hparams(loaded))
    metrics, *_ = editor.edit(
        **TWO,
        target_neg=["Paris", "Rome"],
        loc_prompts=["Anything"],
        keep_original_weight=True,
        train_ds=None,
        eval_metric="token_em",
        pre_file=str(tmp_path / "pre.json"),
    )
    rewrite = metrics[1]["requested_rewrite"]
    assert (rewrite["target_neg"], rewrite["loc_prompt"]) == ("Rome", "Anything")
    assert "Metrics Summary" in capsys.readouterr().out
    pre = json.loads((tmp_path / "pre.json").read_text())
    assert [one["pre"] for one in metrics] == [one["pre"] for one in pre]
    requests = [one["requested_rewrite"] for one in metrics]
    pre[0]["pre"]["rewrite_acc"] = [0.5]
    again, *_ = editor.edit("", "", requests=requests, pre_edit=pre, verbose=False)
    assert again[0]["pre"]["rewrite_acc"] == [0.5] and again[0]["post"] == metrics[0]["post"]


def test_fluency_is_sampled_as_easyedit_does(loaded, monkeypatch):
    pytest.importorskip("nltk")
    monkeypatch.setattr(fluency, "_require_punkt", lambda: None)
    monkeypatch.setattr("nltk.tokenize.word_tokenize", lambda text, **how: text.split())
    metrics, *_ = BaseEditor(hparams(loaded)).edit(**ONE, test_generation=True, verbose=False)
    assert all(0 < metrics[0][when]["fluency"]["ngram_entropy"] < 8 for when in ("pre", "post"))


def test_means_are_easyedits(capsys):
    case = {"rewrite_acc": [1.0], "locality": {"near_acc": [1.0, 0.0], "near_output": [[1]]}}
    other = {"rewrite_acc": [0.0], "rephrase_acc": [0.25], "locality": {}, "portability": {}}
    both = [{"pre": x, "post": x} for x in (case | {"portability": {}}, other)]
    means = summary_metrics(both)
    assert means["post"] == {
        "rewrite_acc": 0.5,
        "rephrase_acc": 0.25,
        "locality": {"near_acc": 0.5},
    }
    assert summary_metrics(both[0])["pre"]["rewrite_acc"] == 1.0


def test_hparams_are_read_changed_and_written(tmp_path, loaded):
    file = tmp_path / "gpt2-xl.yaml"
    file.write_text("alg_name: ROME\nmodel_name: atlas\nlayers: auto\nv_lr: 5e-1\ndevice: 0\n")
    read = ROMEHyperParams.from_hparams(str(file.with_suffix("")))
    assert (read.v_lr, read.layers, read.fp16, read.model_name) == (0.5, "auto", False, "atlas")
    read.layers = [3]
    read.save(tmp_path / "three.yaml")
    assert ROMEHyperParams.from_hparams(tmp_path / "three.yaml") == read
    with pytest.raises(DataError, match="alg_name: expected 'MEMIT', got 'ROME'; use the class"):
        MEMITHyperParams.from_hparams(file)
    with pytest.raises(DataError, match="alg_name: expected one of ROME, R-ROME, .*, got 'WISE'"):
        BaseEditor(SimpleNamespace(alg_name="WISE", model_name="atlas"))
    for key, value, message in (
        (
            "evaluation_type",
            "LLM-judge",
            "evaluation_type: 'LLM-judge': metrics are teacher-forced",
        ),
        ("use_chat_template", True, "use_chat_template: True: metrics are"),
        ("fact_token", "last", "fact_token: only 'subject_last' is supported, got 'last'"),
        ("v_lr", -1, "v_lr: expected a number above 0"),
    ):
        with pytest.raises(EditError, match=message):  # before a model is looked for
            BaseEditor(hparams("nowhere", **{key: value}))
    if not torch.cuda.is_available():
        with pytest.warns(LgaFastWarning, match="there is no cuda:0; the CPU is used"):
            assert BaseEditor(file).editable.device.type == "cpu"


def test_an_editor_of_lga_fast_takes_the_same_hparams(loaded):
    model = lga_fast.load(*loaded)
    facts = [{"prompt": ONE["prompts"], "subject": "Eiffel Tower", "target_new": "Rome"}]
    change = lga_fast.edit(model, facts, "R-ROME", config=hparams(loaded))
    assert change.provenance["editor"] == "r_rome" and change.provenance["layer"] == 0


def test_what_is_not_there_says_so():
    with pytest.raises(UnknownName, match="WISEHyperParams: lga_fast has no such part of EasyEdit"):
        easyedit.WISEHyperParams  # noqa: B018
    assert not hasattr(easyedit, "anything")
