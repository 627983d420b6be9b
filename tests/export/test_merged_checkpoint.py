"""An edited model as a folder: the edited bits, in copies of the checkpoint's files."""

from __future__ import annotations

import json
import os
import shutil
import stat

import pytest
import tiny
import torch
from both_placements import both
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import lga_fast
from lga_fast.errors import EditError
from lga_fast.export import merged_checkpoint
from lga_fast.streaming.checkpoint_files import INDEX
from tests.abandoned import killed_while_writing
from tests.models.edits import bits, make_edit


def plain(folder, **options):
    """What transformers loads, in `EditableModel`'s clothes for `bits`."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", **options)
    return lga_fast.load(hf, tokenizer=AutoTokenizer.from_pretrained(folder))


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("weights", ["resident", "streamed"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "falcon"])
def test_only_the_file_with_the_edited_tensor_differs(family, weights, tmp_path):
    source, folder = tmp_path / "source", tmp_path / "new" / "merged"
    dtype = torch.bfloat16 if family == "llama" else torch.float32
    resident, streamed = both(source, tiny.model(family, dtype))
    model = streamed if weights == "streamed" else resident
    edit = make_edit(model, layers=(1,), scale=1.0)
    before = files(source)
    edit.to_model(folder, model)
    with resident.edited(edit):
        wanted = bits(resident)
    loaded = plain(folder)
    assert bits(loaded) == wanted and loaded.hf.dtype == dtype
    assert loaded.tokenizer.get_vocab() == model.tokenizer.get_vocab()
    after = files(folder)
    assert set(after) >= {name for name in before if not name.startswith("tokenizer")}
    place = streamed.shards.location(*edit.deltas)
    assert place is not None
    stored = [name for name in before if name.endswith(".safetensors")]
    assert [name for name in stored if after[name] != before[name]] == [place[0].name]
    assert files(source) == before and [p.name for p in folder.parent.iterdir()] == ["merged"]
    assert not any(file.is_symlink() for file in folder.iterdir())


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_another_dtype_than_the_stored_one_is_written(weights, tmp_path):
    source, folder = tmp_path / "source", tmp_path / "merged"
    models = both(source, tiny.model("gpt2", torch.bfloat16), dtype="float32")
    edit = make_edit(models[0])
    edit.to_model(folder, models[weights == "streamed"])
    with models[0].edited(edit):
        wanted = bits(models[0])
    loaded = plain(folder)
    assert bits(loaded) == wanted and loaded.hf.dtype == torch.float32
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    sizes = sum(t.nbytes for t in models[1].shards._stored.values())
    assert index["metadata"]["total_size"] == 2 * sizes


def test_what_else_changed_in_a_model_in_memory_is_written_too(tmp_path):
    """Edits for good and training; also where there is no checkpoint of safetensors."""
    resident, _ = both(tmp_path / "source", tiny.model("llama", torch.float32))
    resident.apply(make_edit(resident, layers=(3,)))
    with torch.no_grad():
        resident.hf.get_input_embeddings().weight[3, 3] += 1
    edit = make_edit(resident, seed=1)
    with resident.edited(edit):
        wanted = bits(resident)
    for i, source in enumerate((resident.source, None)):
        resident.source = source  # None: as of a model object
        edit.to_model(tmp_path / f"{i}", resident)
        assert bits(plain(tmp_path / f"{i}")) == wanted
    assert len(list((tmp_path / "0").glob("*.safetensors"))) > 3
    assert (tmp_path / "1" / "model.safetensors").exists()


@pytest.mark.filterwarnings("ignore:.*1 tensors are not of the model")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_tensors_that_the_model_class_does_not_load_are_not_lost(weights, dtype, tmp_path):
    """Such as layers for multi-token prediction, or the vision tower beside a text decoder."""
    source = tmp_path / "source"
    both(source, tiny.model("llama", torch.bfloat16))
    first = min(source.glob("*.safetensors"))
    tensors = load_file(first) | {"mtp.weight": torch.arange(6.0)}
    save_file(tensors, first, {"format": "pt"})
    model = lga_fast.load(source, device="cpu", dtype=dtype, weights=weights)
    make_edit(model).to_model(tmp_path / "merged", model)
    assert torch.equal(
        load_file(tmp_path / "merged" / first.name)["mtp.weight"], tensors["mtp.weight"]
    )


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_a_merge_that_fails_leaves_nothing(weights, tmp_path, monkeypatch):
    models = both(tmp_path / "source", tiny.model("llama", torch.float32))
    model = models[weights == "streamed"]
    before, copy = model.fingerprint(), shutil.copyfile

    def broken(source, into):
        if "00003" in into.name:
            raise OSError("disk full")
        return copy(source, into)

    monkeypatch.setattr(shutil, "copyfile", broken)
    with pytest.raises(OSError, match="disk full"):
        make_edit(model).to_model(tmp_path / "merged", model)
    assert [p.name for p in tmp_path.iterdir()] == ["source"] and model.fingerprint() == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_shards_may_lie_in_folders_and_have_one_name(weights, dtype, tmp_path):
    source = tmp_path / "source"
    both(source, tiny.model("llama", torch.float32))
    index = json.loads((source / INDEX).read_text())
    for number, name in enumerate(sorted({*index["weight_map"].values()})):
        moved = f"part{number}/model.safetensors"
        (source / moved).parent.mkdir()
        (source / name).rename(source / moved)
        index["weight_map"] |= {k: moved for k, of in index["weight_map"].items() if of == name}
    (source / INDEX).write_text(json.dumps(index))
    model = lga_fast.load(source, device="cpu", weights=weights, dtype=dtype)
    edit = make_edit(model)
    edit.to_model(tmp_path / "merged", model)
    same = lga_fast.load(source, device="cpu", dtype=dtype)
    with same.edited(edit):
        assert bits(plain(tmp_path / "merged")) == bits(same)
    assert len([*(tmp_path / "merged").glob("part*/model.safetensors")]) == number + 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_files_are_as_readable_as_others(dtype, tmp_path):
    both(tmp_path / "source", tiny.model("llama", torch.float32))
    model = lga_fast.load(tmp_path / "source", device="cpu", dtype=dtype)
    edit = make_edit(model)
    before = os.umask(0o027)
    try:
        edit.to_model(tmp_path / "merged", model)
        edit.to_peft(tmp_path / "adapter", model)
        edit.save(tmp_path / "adapter" / "edit.safetensors")
    finally:
        os.umask(before)
    written = [f for name in ("merged", "adapter") for f in (tmp_path / name).rglob("*.*")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in written} == {0o640}


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_an_edit_that_is_in_effect_is_not_added_again(weights, tmp_path):
    models = both(tmp_path / "source", tiny.model("llama", torch.float32))
    model, edit = models[weights == "streamed"], make_edit(models[0])
    with models[0].edited(edit):
        wanted = bits(models[0])
    with model.edited(edit):
        edit.to_model(tmp_path / "within", model)
    model.apply(edit)
    edit.to_model(tmp_path / "for good", model)
    assert bits(plain(tmp_path / "within")) == bits(plain(tmp_path / "for good")) == wanted


@pytest.mark.parametrize("weights", ["resident", "streamed", "no files"])
def test_what_lies_beside_the_weights_comes_along(weights, tmp_path):
    models = both(tmp_path / "source", tiny.model("llama", torch.float32))
    model = models[weights == "streamed"]
    if weights == "no files":
        for file in (tmp_path / "source").glob("*.safetensors*"):
            file.unlink()
    extras = ("LICENSE.txt", "preprocessor_config.json", "editing.json")
    for name in (*extras, "README.md"):
        (tmp_path / "source" / name).write_text(name)
    make_edit(model).to_model(tmp_path / "merged", model)
    after = files(tmp_path / "merged")
    assert all(after[name] == name.encode() for name in extras)
    assert after["README.md"] != b"README.md"


def test_a_folder_in_use_is_refused_and_what_a_killed_merge_left_goes(tmp_path, monkeypatch):
    model, _ = both(tmp_path / "source", tiny.model("llama", torch.float32))
    before, edit = files(tmp_path / "source"), make_edit(model)
    (tmp_path / "note").write_text("mine")
    with monkeypatch.context() as idle:
        idle.setattr(merged_checkpoint, "_write", lambda *args: pytest.fail("began to write"))
        with pytest.raises(EditError, match="new or an empty folder .* that holds something"):
            edit.to_model(tmp_path / "source", model)
        with pytest.raises(EditError, match="got a file; give another"):
            edit.to_model(tmp_path / "note", model)
    assert files(tmp_path / "source") == before
    abandoned = killed_while_writing(tmp_path / "merged.1-B")
    abandoned.mkdir()
    (abandoned / "model.safetensors").write_text("half")
    (tmp_path / "merged.1-B").mkdir()
    edit.to_model(tmp_path / "merged.1-B", model)
    assert not abandoned.exists() and (tmp_path / "merged.1-B" / "config.json").exists()


def test_a_model_of_other_shapes_than_its_checkpoint_is_written_whole(tmp_path):
    model, _ = both(tmp_path / "source", tiny.model("llama", torch.float32))
    model.hf.resize_token_embeddings(405)
    edit = make_edit(model)
    with model.edited(edit):
        wanted = bits(model)
    edit.to_model(tmp_path / "merged", model)
    assert bits(plain(tmp_path / "merged")) == wanted
