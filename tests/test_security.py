"""What is read runs nothing, asks nothing, leaves its folder nowhere, and fetches nothing."""

from __future__ import annotations

import builtins
import json
import pickle
import shutil
import socket

import pytest
import torch

import lga_fast
from lga_fast.errors import LgaFastError
from tests.evaluation.runs import REQUESTS, evaluate
from tests.models.edits import make_edit


@pytest.fixture
def folder(saved_model, tmp_path):
    """A folder of the model that a test may change."""
    return shutil.copytree(saved_model, tmp_path / "model")


class Runs:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (str(self._path), "w")


def test_weights_in_pickles_need_a_flag(folder, tmp_path):
    state = lga_fast.load(folder, device="cpu").hf.state_dict()
    for file in folder.glob("*.safetensors"):
        file.unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(LgaFastError, match="expected weights in safetensors.*allow_pickle=True"):
        lga_fast.load(folder, device="cpu")
    loaded = lga_fast.load(folder, device="cpu", allow_pickle=True).hf.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    with pytest.raises(LgaFastError, match="expected its weights in model.safetensors"):
        lga_fast.load(folder, device="cpu", weights="streamed", allow_pickle=True)
    ran = tmp_path / "ran"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(ran)))
    for allow in (False, True):
        with pytest.raises(LgaFastError):
            lga_fast.load(folder, device="cpu", allow_pickle=allow)
    assert not ran.exists()


@pytest.mark.parametrize("weights", ("resident", "streamed", "auto"))
def test_code_of_a_folder_neither_runs_nor_is_asked_for(folder, weights, monkeypatch):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"model_type": "their_own"}
    config["auto_map"] = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    path.write_text(json.dumps(config))
    ran = folder / "ran"
    (folder / "theirs.py").write_text(f"open({str(ran)!r}, 'w')")

    def asked(*args):
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr(builtins, "input", asked)
    with pytest.raises(LgaFastError, match="could not load"):
        lga_fast.load(folder, device="cpu", weights=weights)
    assert not ran.exists()


@pytest.mark.parametrize("weights", ("resident", "streamed"))
@pytest.mark.parametrize("name", ("../other.safetensors", "/other.safetensors", "a/../../b"))
def test_an_index_stays_in_its_folder(folder, name, weights):
    whole = folder / "model.safetensors"
    whole.rename(folder.parent / "other.safetensors")
    names = {"a": name}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    with pytest.raises(LgaFastError, match="files in this folder, got the file"):
        lga_fast.load(folder, device="cpu", weights=weights)


class Forbidden(BaseException):
    """The network is forbidden here."""


@pytest.fixture
def no_network(monkeypatch):
    """Every way to another machine raises what is not caught and tried again, and is counted."""
    tried = []

    def forbidden(*args, **options):
        tried.append(args)
        raise Forbidden

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket.socket, "connect_ex", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    return tried


@pytest.mark.parametrize("source", ("folder", "atlas"))
@pytest.mark.parametrize("weights", ("resident", "streamed"))
def test_nothing_is_fetched(source, weights, folder, tmp_path, no_network):
    path = folder if source == "folder" else source
    model = lga_fast.load(path, device="cpu", weights=weights, dtype="float32")
    lga_fast.select_layer(model, REQUESTS[:2], selector="lga", bootstrap=0)
    evaluate(model, REQUESTS[:1], steps=1, metrics=("rewrite",))
    edit = make_edit(model, (1,))
    edit.save(tmp_path / "edit.safetensors")
    edit.to_peft(tmp_path / "adapter", model)
    edit.to_model(tmp_path / "merged", model)
    assert not no_network


def test_a_hub_id_is_fetched(no_network):
    """The test above can fail."""
    with pytest.raises(Forbidden):
        lga_fast.load("someone/nothing-of-this-name", device="cpu")
    assert no_network
