"""A checkpoint that transformers would fill up with random numbers is refused, wherever it goes."""

from __future__ import annotations

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import lga_fast
from lga_fast.errors import LgaFastError, UnsupportedModel

UP = "model.layers.2.mlp.up_proj.weight"


def without(part):
    return lambda tensors: {name: x for name, x in tensors.items() if part not in name}


def load(folder, family, change, weights):
    model = tiny.model(family, torch.float32)
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return lga_fast.load(folder, device="cpu", weights=weights), model


@pytest.mark.parametrize("weights", ["resident", "streamed"])
@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        (
            "gpt2",
            without("h.2.mlp."),
            r"4 missing or of another shape: transformer.h.2.mlp.c_fc.bias \(missing\); .* Fetch",
        ),
        ("gpt2", without("wte"), r"2 missing .*: lm_head.weight \(missing\); transformer.wte.weig"),
        ("llama", without("lm_head"), r"1 missing .*: lm_head.weight \(missing\). Fetch the check"),
        ("llama", lambda t: t | {UP: torch.ones(3, 4)}, rf"1 .*: {UP} \(3, 4\) for \(48, 32\). F"),
        (
            "llama",
            lambda t: {f"x.{name}": x for name, x in t.items()},
            "48 missing .* It has 48 others, such as x.lm_head.weight. .* with its own config.json",
        ),
        ("mixtral", without("layers.1.block_sparse_moe.gate"), r"1 .*: model.layers.1.mlp.gate.w"),
        ("mixtral", without("layers.1.block_sparse_moe.experts"), "2 .*1.mlp.experts.down_proj"),
        ("gemma3", without("vision_tower"), "32 missing .*model.vision_tower.embeddings"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*48 tensors are not of the model")
def test_what_is_missing_or_misshapen_is_named(family, change, message, weights, tmp_path):
    """Before: resident ones were scored on random numbers, and a wrong shape was a RuntimeError."""
    with pytest.raises(
        LgaFastError, match=f"expected every tensor that config.json d.*, {message}"
    ):
        load(tmp_path, family, change, weights)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("resident", "its tensors do not fit config.json: .* conversion of the weights"),
        ("streamed", "1 missing or of another shape: model.layers.1.mlp.experts.gate_up_proj"),
    ],
)
@pytest.mark.parametrize("missing", [True, False])
def test_one_of_the_experts_that_become_one_tensor(missing, weights, message, tmp_path):
    def change(tensors):
        (name,) = (name for name in tensors if "layers.1." in name and "experts.2.w1" in name)
        rest = without(name)(tensors)
        return rest if missing else rest | {name: torch.ones(3, 4)}

    with pytest.raises(LgaFastError, match=message):
        load(tmp_path, "mixtral", change, weights)


@pytest.mark.parametrize("weights", ["resident", "streamed"])
@pytest.mark.parametrize("family", tiny.names())
def test_what_is_tied_or_computed_need_not_be_there(family, weights, tmp_path):
    """Tied heads, rotary frequencies, masks; tensors that no model asks for are no fault."""
    if weights == "streamed" and family in tiny.ENTANGLED:
        with pytest.raises(UnsupportedModel, match="blocks of .* read more of earlier ones"):
            load(tmp_path, family, dict, weights)
        return
    more = {"model.layers.0.rotary_emb.inv_freq": torch.ones(2)} if family == "llama" else {}
    loaded, model = load(tmp_path, family, lambda t: t | more, weights)
    assert loaded.fingerprint() == model.fingerprint()


def test_memory_that_runs_out_is_no_fault_of_the_checkpoint(tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    def out(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", out)
    with pytest.raises(torch.OutOfMemoryError):
        load(tmp_path, "gpt2", dict, "resident")
