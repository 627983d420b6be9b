"""Tensors that transformers joins from several stored ones, or splits from one."""

from __future__ import annotations

from threading import Thread

import pytest
import tiny
import torch
from both_placements import REQUESTS, assert_same_bits, both
from safetensors.torch import load_file, save_file
from transformers import conversion_mapping
from transformers.core_model_loading import Chunk, WeightConverter

import lga_fast
from tests.torture.interrupts import Interrupt

# Whose experts are stored as transformers has them.
AS_THEY_ARE = ["gpt_oss", "llama4_text", "granitemoehybrid", "gemma4_text-mixture"]


@pytest.mark.parametrize("family", tiny.MIXTURES)
def test_a_fingerprint_reads_few_values(family, tmp_path, monkeypatch):
    """As few of a mixture's experts as of any other tensor, and the resident model's values."""
    resident, streamed = both(tmp_path, tiny.model(family, torch.float32))
    said, before = streamed.fingerprint_bytes(), streamed.shards.bytes_read
    assert streamed.fingerprint() == resident.fingerprint()
    assert streamed.shards.bytes_read - before == said < streamed.sweep_bytes() / 20
    if family in AS_THEY_ARE:
        return
    joined = [n for n in streamed.shards.names("model.layers.1.") if "mlp.experts" in n]
    few = {n: streamed.shards.sample(n, 50) for n in joined}
    assert joined
    # As if the converter were not known.
    monkeypatch.setattr("lga_fast.streaming._merged_tensors.MergeModulelist", type(None))
    for n in joined:
        assert streamed.shards.sample_bytes(n, 50) == streamed.shards.stored_bytes([n])
        assert torch.equal(streamed.shards.sample(n, 50), few[n])


def test_tensors_that_are_split_from_one(tmp_path, monkeypatch):
    """Read together with the first of them, once."""
    model = tiny.model("llama", torch.float32)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    resident = lga_fast.load(tmp_path, device="cpu")
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    for layer in range(model.layers):
        mlp = f"model.layers.{layer}.mlp"
        parts = [tensors.pop(f"{mlp}.{name}.weight") for name in ("gate_proj", "up_proj")]
        tensors[f"{mlp}.gate_up_proj.weight"] = torch.cat(parts)
    save_file(tensors, file, {"format": "pt"})
    split = WeightConverter("mlp.gate_up_proj", ["mlp.gate_proj", "mlp.up_proj"], [Chunk(dim=0)])
    monkeypatch.setattr(
        conversion_mapping, "get_model_conversion_mapping", lambda *_, **__: [split]
    )
    streamed = lga_fast.load(tmp_path, device="cpu", weights="streamed")
    assert streamed.fingerprint() == resident.fingerprint()
    scores = [lga_fast.score_layers(m, REQUESTS) for m in (streamed, resident)]
    assert_same_bits(*scores)
    up = "model.layers.1.mlp.up_proj.weight"
    assert up not in streamed.shards.names("") and streamed.shards.source(up) == up
    both_parts = [up, "model.layers.1.mlp.gate_proj.weight"]
    whole = tensors["model.layers.1.mlp.gate_up_proj.weight"].nbytes
    assert streamed.shards.loaded_bytes(both_parts) == whole
    before = streamed.shards.bytes_read
    assert set(streamed.shards.read(both_parts)) == set(both_parts)
    assert streamed.shards.bytes_read - before == whole


def test_a_read_that_is_interrupted_anywhere_blocks_no_other(tmp_path):
    _, streamed = both(tmp_path, tiny.model("gpt2", torch.float32))

    def read():
        streamed.shards.read(streamed.shards.names("transformer.h.0.")[:1])

    whole = Interrupt()
    whole.run(read)
    assert any(file.endswith("streaming/checkpoint.py") for file, _ in whole.lines)
    for at in range(len(whole.lines)):
        Interrupt(at).run(read)
        other = Thread(target=read, daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive(), whole.lines[at]
