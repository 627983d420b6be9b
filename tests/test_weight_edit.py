"""WeightEdit as data: what it refuses, its file, and its PEFT adapter."""

from __future__ import annotations

import copy
import json
import os
import warnings

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import lga_fast
from lga_fast.errors import DataError, EditError
from lga_fast.records import EditRequest
from lga_fast.weight_edit import KIND, LowRank, WeightEdit

NAME = "model.layers.2.mlp.down_proj.weight"


def low_rank(d_out=32, d_in=48, rank=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sides = (torch.randn(n, rank, generator=generator) * 0.1 for n in (d_out, d_in))
    return LowRank(*sides)


def some_edit():
    requests = [EditRequest("0", "The capital of France is", "Rom", subject="France")]
    provenance = {
        "model_fingerprint": "0123456789abcdef",
        "editor": "rome",
        "layer": 2,
        "config": {"v_lr": 0.5, "layers": (1, 2), "note": "Ü"},
        "requests": requests,
        "torch": torch.__version__,
    }
    return WeightEdit({NAME: low_rank(), NAME.replace("2", "1"): low_rank(rank=1)}, provenance)


def test_the_public_name():
    assert lga_fast.WeightEdit is WeightEdit and "WeightEdit" in lga_fast.__all__


def test_it_is_data_of_its_own():
    left, right = torch.ones(3, 1), torch.ones(4, 1, requires_grad=True)
    edit = WeightEdit({NAME: LowRank(left, right)})
    left.zero_()
    delta = edit.deltas[NAME]
    assert delta.left.sum() == 3 and not delta.right.requires_grad
    assert delta.shape == (3, 4) and delta.rank == 1 and edit.model_fingerprint is None
    assert repr(edit) == f"WeightEdit(unnamed editor: {NAME} 3x4 rank 1)"
    with pytest.raises(TypeError):
        edit.deltas["other"] = delta
    with pytest.raises(AttributeError):
        edit.deltas = {}


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (
            torch.tensor([[1.0], [float("nan")]]),
            torch.ones(4, 1),
            "left: expected finite .* 1 of 2",
        ),
        (torch.ones(2, 1), torch.full((4, 1), float("inf")), "right: expected finite .* 4 of 4"),
        (torch.ones(2, 1).double(), torch.ones(4, 1), "left: expected a float32 matrix, got .*64"),
        (torch.ones(2), torch.ones(4, 1), r"left: expected a float32 matrix, got .* \(2,\)"),
        (torch.ones(2, 1), [[1.0]], "right: expected a float32 matrix, got list"),
        (torch.ones(2, 2), torch.ones(4, 1), "right: expected rank 2 as left, got 1"),
        (torch.ones(2, 0), torch.ones(4, 0), "expected rank 1 or more, got rank 0"),
    ],
)
def test_factors_that_are_no_edit_are_refused(left, right, message):
    with pytest.raises(EditError, match=f"edit of {NAME}: {message}"):
        WeightEdit({NAME: LowRank(left, right)})


def test_other_things_that_are_no_edit():
    with pytest.raises(EditError, match="expected at least one parameter, got none"):
        WeightEdit({})
    with pytest.raises(EditError, match="expected a LowRank, got tuple"):
        WeightEdit({NAME: (torch.ones(2, 1), torch.ones(3, 1))})
    with pytest.raises(EditError, match=r"provenance that JSON can hold: Tensor tensor\(1\)"):
        WeightEdit({NAME: low_rank()}, {"v": torch.tensor(1)})


def test_a_file_gives_the_edit_back(tmp_path):
    edit, path = some_edit(), tmp_path / "edit.safetensors"
    edit.save(path)
    back = WeightEdit.load(str(path))
    assert list(back.deltas) == list(edit.deltas) and back.checksum == edit.checksum
    for name, delta in edit.deltas.items():
        assert torch.equal(back.deltas[name].left, delta.left)
        assert torch.equal(back.deltas[name].right, delta.right)
    assert back.provenance == edit.provenance
    assert back.provenance["requests"][0]["subject"] == "France"
    assert back.provenance["config"]["layers"] == [1, 2]
    assert [f.name for f in tmp_path.iterdir()] == [path.name]
    first = path.read_bytes()
    some_edit().save(path)
    assert path.read_bytes() == first  # the same edit is the same file


def test_checksum_tells_factors_apart_not_provenance():
    edit = some_edit()
    assert WeightEdit(edit.deltas).checksum == edit.checksum
    assert WeightEdit({NAME: low_rank(seed=1)}).checksum != WeightEdit({NAME: low_rank()}).checksum


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "edit.safetensors"
    some_edit().save(path)
    old = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        WeightEdit({NAME: low_rank()}).save(path)
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1


def about(**changes):
    return {KIND: json.dumps({"version": 1, "provenance": {}} | changes)}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"a": torch.ones(2)}, None, r"expected 'lga_fast.WeightEdit' in .* 1 tensors \(a\)"),
        ({"a.left": torch.ones(2, 1)}, about(), r"left and right .* got 1 tensors \(a.left\)"),
        ({"a": torch.ones(2, 1)}, about(), "expected left and right of each parameter"),
        ({}, about(), "expected at least one parameter"),
        ({}, about(version=2), "expected a lga_fast.WeightEdit of version 1, got version 2"),
        ({}, about(provenance=3), "expected a lga_fast.WeightEdit of version 1"),
        ({}, {KIND: "[]"}, "of version 1, got version None"),
        ({}, {KIND: "{"}, "Expecting property name"),
        (
            {"a.left": torch.full((2, 1), float("nan")), "a.right": torch.ones(3, 1)},
            about(),
            "edit of a: left: expected finite",
        ),
        (
            {"a.left": torch.ones(2, 1).half(), "a.right": torch.ones(3, 1)},
            about(),
            "expected a float32 matrix, got torch.float16",
        ),
    ],
)
def test_foreign_files_are_refused(tmp_path, tensors, metadata, message):
    path = tmp_path / "file.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(DataError, match=f"file.safetensors: .*{message}"):
        WeightEdit.load(path)


def test_broken_files_are_refused(tmp_path):
    path = tmp_path / "edit.safetensors"
    some_edit().save(path)
    whole = path.read_bytes()
    for content in (b"", b"{}", whole[:20], whole[: len(whole) // 2], whole[:-4], whole + b"0000"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="edit.safetensors: expected a readable safet"):
            WeightEdit.load(path)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(DataError, match="expected a readable safetensors file"):
            WeightEdit.load(missing)


def peft_logits(model, folder, ids):
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # peft mends a wrong fan_in_fan_out with one
        loaded = peft.PeftModel.from_pretrained(copy.deepcopy(model.hf), folder).eval()
    changed = [n for n, m in loaded.base_model.model.named_modules() if hasattr(m, "lora_A")]
    with torch.no_grad():
        return loaded(input_ids=ids).logits, changed, loaded


@pytest.mark.parametrize("family", ("gpt2", "llama", "gemma3", "qwen3", "phi3"))
def test_peft_gives_the_same_logits(family, tmp_path):
    model = tiny.model(family, torch.float32)
    ids = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    # layers 1 and 11 would be confused by a careless pattern; here every rank differs
    ranks = {(1, "down"): 3, (2, "down"): 1, (4, "down"): 2}
    deltas = {
        model.weight_name(*place): low_rank(*model.shape(*place), rank, seed=rank)
        for place, rank in ranks.items()
    }
    edit = WeightEdit(deltas, {"model_fingerprint": model.fingerprint()})
    edit.to_peft(tmp_path / "adapter", model)
    assert {f.name for f in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "lga_fast_edits.json",
        "README.md",
    }
    with model.frozen(), torch.no_grad():
        plain = model.hf(input_ids=ids).logits
        with model.edited(edit):
            edited = model.hf(input_ids=ids).logits
        logits, changed, loaded = peft_logits(model, tmp_path / "adapter", ids)
    assert (edited - plain).abs().max() > 0.05
    torch.testing.assert_close(logits, edited, rtol=1e-5, atol=1e-5)
    assert changed == [name.removesuffix(".weight") for name in deltas]
    with model.edited(edit):  # merged by peft: the same weight, whichever way it is stored
        merged = loaded.merge_and_unload()
        for name in deltas:
            torch.testing.assert_close(merged.get_parameter(name), model.hf.get_parameter(name))


def test_an_adapter_is_replaced_whole(tmp_path):
    model = tiny.model("llama", torch.float32)
    for rank in (2, 1):
        WeightEdit({NAME: low_rank(rank=rank)}).to_peft(tmp_path, model)
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        tensors = load_file(tmp_path / "adapter_model.safetensors")
        assert config["r"] == config["lora_alpha"] == rank and config["rank_pattern"] == {}
        assert {t.shape[i] for t, i in zip(tensors.values(), (0, 1), strict=True)} == {rank}
    with pytest.raises(EditError, match="expected an MLP matrix of 'tiny-gpt2'"):
        WeightEdit({NAME: low_rank()}).to_peft(tmp_path / "no", tiny.model("gpt2"))
    assert not (tmp_path / "no").exists()
