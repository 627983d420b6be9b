"""Loading, refusals, and the promise that a model comes back as it was."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

import lga_fast
from lga_fast.errors import LgaFastError, OptionError, UnsupportedModel
from lga_fast.load_arguments import parse_bytes
from lga_fast.models import EditableModel


def test_a_folder_loads_in_its_own_dtype_frozen_for_evaluation(saved_model):
    model = lga_fast.load(saved_model, device="cpu")
    assert model.dtype == torch.bfloat16 and not model.hf.training
    assert model.family_name == "llama" and model.layers == 5
    assert model.parameter_names() == ["gate.weight", "up.weight", "down.weight"]
    wide = lga_fast.load(str(saved_model), device="cpu", dtype="float32", memory_budget="1.5 GiB")
    assert wide.dtype == torch.float32 and wide.memory_budget == 3 * 2**29
    assert wide.fingerprint() == model.fingerprint()  # of values, not of their dtype


def test_fingerprint_tells_weights_apart():
    model = tiny.model("gpt2")
    before = model.fingerprint()
    with torch.no_grad():
        model.matrix(3, "down").weight[0, 0] += 1
    assert model.fingerprint() != before


def test_an_object_is_used_as_it_is(saved_model):
    source = tiny.model("gpt2")
    model = lga_fast.load(source.hf, tokenizer=source.tokenizer)
    assert model.hf is source.hf and model.hf.training
    for arguments, message in [
        ({}, "needs its tokenizer"),
        ({"tokenizer": source.tokenizer, "dtype": "float32"}, "drop device= and dtype="),
    ]:
        with pytest.raises(LgaFastError, match=message):
            lga_fast.load(source.hf, **arguments)
    with pytest.raises(LgaFastError, match="expected a transformers model, a folder or a Hub id"):
        lga_fast.load(torch.nn.Linear(1, 1), tokenizer=source.tokenizer)


def test_what_cannot_be_loaded_says_what_was_tried(tmp_path):
    with pytest.raises(LgaFastError, match="as a Hub id or a folder written by save_pretrained"):
        lga_fast.load(tmp_path)
    with pytest.raises(LgaFastError, match="no embedded model 'atlas-bert'"):
        lga_fast.load("atlas-bert")
    with pytest.raises(LgaFastError, match=r"'smollm2-135m': .*there is none yet; `make real` in"):
        lga_fast.load("smollm2-135m")
    with pytest.raises(LgaFastError, match="dtype 'int8': expected auto, float32"):
        lga_fast.load(tmp_path, dtype="int8")


def test_a_fetched_model_is_loaded_from_the_cache_by_its_name(saved_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.copytree(saved_model, tmp_path / "lga_fast" / "models" / "smollm2-135m")
    model = lga_fast.load("smollm2-135m", device="cpu")
    assert model.name == "smollm2-135m" and model.dtype == torch.bfloat16 and model.layers == 5
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m").mkdir()
    with pytest.raises(LgaFastError, match="could not load"):  # a path goes before a name
        lga_fast.load("smollm2-135m", device="cpu")


@pytest.mark.parametrize("weights", ["resident", "streamed", "auto"])
def test_a_file_that_is_cut_off_is_no_traceback(weights, tmp_path):
    model = tiny.model("gpt2")
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    message = "could not load" if weights == "resident" else "model.safetensors: expected a whole"
    with pytest.raises(LgaFastError, match=f"{message}.*file not fully covered"):
        lga_fast.load(tmp_path, device="cpu", weights=weights)


@pytest.mark.parametrize("text", ["8 apples", "GiB", "-1GiB", ""])
def test_memory_sizes_that_are_none(text):
    with pytest.raises(LgaFastError, match="expected a number and a unit"):
        parse_bytes(text)


@pytest.mark.parametrize("budget", [0, -1, 1.5, "0 GiB"])
def test_memory_budgets_that_hold_nothing_are_refused_before_loading(budget, tmp_path):
    with pytest.raises(OptionError, match="load: memory_budget: expected a whole number of at lea"):
        lga_fast.load(tmp_path / "none", memory_budget=budget)


@pytest.mark.parametrize(("text", "size"), [("8GiB", 2**33), ("500 MB", 5 * 10**8), ("7", 7)])
def test_memory_sizes(text, size):
    assert parse_bytes(text) == size


def test_a_model_that_is_not_what_its_family_says():
    model = tiny.model("gpt2")
    model.hf.transformer.h[2].mlp.c_fc = torch.nn.Linear(32, 48)
    with pytest.raises(UnsupportedModel, match="'mlp.c_fc' of layer 2 is a Linear, which stores"):
        EditableModel(model.hf, model.tokenizer, "x")
    del model.hf.transformer.h[2].mlp.c_fc
    with pytest.raises(UnsupportedModel, match=r"up matrix of layer 2 .* the block has: ln_1"):
        EditableModel(model.hf, model.tokenizer, "x")
    with pytest.raises(UnsupportedModel, match="Is it the causal language model"):
        EditableModel(tiny.model("gpt2").hf.transformer, model.tokenizer, "x")


def test_frozen_puts_everything_back_after_an_exception():
    model = tiny.model("gpt2")
    with pytest.raises(KeyboardInterrupt), model.frozen():
        assert not model.hf.training
        assert not any(p.requires_grad for p in model.hf.parameters())
        raise KeyboardInterrupt
    assert all(m.training for m in model.hf.modules())
    assert all(p.requires_grad for p in model.hf.parameters())


def test_import_does_nothing():
    """`import lga_fast` brings in neither torch nor transformers; the names come when used."""
    code = "import sys, lga_fast; assert 'torch' not in sys.modules; lga_fast.records; sys.exit(7)"
    assert (
        "AttributeError"
        in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    )
    code = "import sys, lga_fast; print('torch' in sys.modules); print(dir(lga_fast))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False") and "select_layer" in done.stdout


@pytest.mark.parametrize("name", ["records", "options", "registry", "datasets", "named_models"])
def test_modules_of_data_load_neither_torch_nor_transformers(name):
    code = f"import sys, lga_fast.{name}; print({{'torch', 'transformers'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_public_name_is_there():
    for name in lga_fast.__all__:
        assert getattr(lga_fast, name) is not None


def test_a_folder_may_say_how_its_model_is_edited_best(saved_model, tmp_path):
    folder = shutil.copytree(saved_model, tmp_path / "model")
    assert lga_fast.load(folder, device="cpu").editing == {}
    advice = folder / "editing.json"
    advice.write_text('{"rome": {"clamp": 16}}')
    assert lga_fast.load(folder, device="cpu").editing == {"rome": {"clamp": 16}}
    for text in ("[1]", "{", '{"rome": 1}'):
        advice.write_text(text)
        with pytest.raises(LgaFastError, match=r"editing.json: expected editors with their opt"):
            lga_fast.load(folder, device="cpu")


def test_type_checkers_see_the_names_where_they_are():
    tree = ast.parse(Path(lga_fast.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == lga_fast._HOMES and set(seen) == set(lga_fast.__all__)
    assert (Path(lga_fast.__file__).parent / "py.typed").is_file()
