"""GGUF files: the weights they hold, how results say so, and what is refused."""

from __future__ import annotations

import importlib.util
import json

import gguf
import numpy as np
import pytest
import tiny
import torch
from running import run

import lga_fast
from lga_fast.errors import LgaFastError

WIDTH, INNER, HEADS, KV_HEADS = 32, 64, 4, 2


def llama():
    """A tiny model whose rows are whole blocks of 32 values."""
    return tiny.model(
        "llama", torch.float32, intermediate_size=INNER, num_hidden_layers=2, vocab_size=400
    )


def in_pairs(weight, heads):
    """Rows of a query or key matrix as llama.cpp rotates them: halves of a head interleaved."""
    return weight.reshape(heads, 2, -1, WIDTH).swapaxes(1, 2).reshape(weight.shape)


def write(file, model, quantise=None, without=(), architecture="llama"):
    """What llama.cpp's converter writes for `model`."""
    out = gguf.GGUFWriter(file, architecture)
    config = model.hf.config
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_vocab_size(config.vocab_size)
    words = sorted(tiny.byte_level().get_vocab().items(), key=lambda word: word[1])
    out.add_tokenizer_model("gpt2")
    out.add_token_list([word for word, _ in words])
    merges = json.loads(tiny.byte_level().backend_tokenizer.to_str())["model"]["merges"]
    out.add_token_merges([" ".join(pair) for pair in merges])
    out.add_bos_token_id(0)
    out.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.hf.state_dict().items():
        stored = names.get_name(name, try_suffixes=(".weight",))
        weight = tensor.numpy()
        for part, heads in (("q_proj", HEADS), ("k_proj", KV_HEADS)):
            weight = in_pairs(weight, heads) if part in name else weight
        if stored in without:
            continue
        if quantise and weight.ndim == 2:
            out.add_tensor(stored, gguf.quantize(weight, quantise), raw_dtype=quantise)
        else:
            out.add_tensor(stored, np.ascontiguousarray(weight))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return file


def logits(model):
    ids = model.tokenizer(tiny.TEXT[0], return_tensors="pt").input_ids
    with torch.no_grad():
        return model.hf.eval()(ids).logits


def test_weights_stored_as_floats_are_the_model(tmp_path):
    model = llama()
    file = write(tmp_path / "tiny.gguf", model)
    got = lga_fast.load(file, device="cpu")
    assert got.dtype == torch.float32 and got.dequantised_from is None and got.placement == ""
    assert got.name == str(file) and got.family_name == "llama"
    torch.testing.assert_close(logits(got), logits(model), rtol=0, atol=1e-5)
    assert lga_fast.load(file, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0])
def test_quantised_weights_are_dequantised_and_results_say_so(kind, tmp_path):
    model = llama()
    file = write(tmp_path / "tiny.gguf", model, kind)
    got = lga_fast.load(file, device="cpu", weights="auto")
    assert got.dtype == torch.bfloat16 and got.dequantised_from == kind.name
    assert got.placement == f"weights: resident, dequantised from {kind.name} to torch.bfloat16"
    for name, tensor in model.hf.state_dict().items():
        if tensor.ndim == 2:
            as_stored = gguf.dequantize(gguf.quantize(tensor.numpy(), kind), kind)
            tensor = torch.from_numpy(as_stored)
            assert torch.equal(got.hf.state_dict()[name], tensor.bfloat16()), name
    ranking = lga_fast.select_layer(got, tiny.REQUESTS[:2])
    assert ranking.provenance["dequantised_from"] == kind.name

    folder = tmp_path / "saved"
    got.hf.save_pretrained(folder)
    got.tokenizer.save_pretrained(folder)
    for weights in ("resident", "streamed"):
        again = lga_fast.load(folder, device="cpu", weights=weights)
        assert again.dequantised_from == kind.name
        assert again.fingerprint() == got.fingerprint()  # so edits of one are edits of the other


def test_the_command_line_takes_one_and_says_so(tmp_path):
    file = write(tmp_path / "tiny.gguf", llama(), gguf.GGMLQuantizationType.Q4_1)
    text = run("select", "--model", file, "--proxy", 2, "--device", "cpu")
    assert "bfloat16 (from Q4_1) on cpu" in text


def test_what_is_refused(tmp_path, monkeypatch):
    model = llama()
    whole = write(tmp_path / "whole.gguf", model)
    with pytest.raises(LgaFastError, match=r"streamed' reads safetensors; load it resident once"):
        lga_fast.load(whole, weights="streamed")
    with pytest.raises(LgaFastError, match=r"none.gguf: expected a GGUF file, there is none"):
        lga_fast.load(tmp_path / "none.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:-4096])
    text = tmp_path / "text.gguf"
    text.write_text("no GGUF file at all")
    partial = write(tmp_path / "partial.gguf", model, without=("blk.1.ffn_up.weight",))
    other = write(tmp_path / "other.gguf", model, architecture="plamo")
    for file, why in [
        (cut, ""),
        (text, "GGUF magic invalid"),
        (partial, "no tensor for model.layers.1.mlp.up_proj.weight"),
        (other, "architecture plamo is not supported"),
    ]:
        with pytest.raises(LgaFastError, match="expected a whole GGUF file .*its Hub id") as caught:
            lga_fast.load(file, device="cpu")
        assert why in str(caught.value) and "\n" not in str(caught.value)

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "gguf" else found(n))
    message = r"^whole.gguf: a GGUF file needs gguf: pip install 'lga-fast\[gguf\]'$"
    with pytest.raises(LgaFastError, match=message):
        lga_fast.load(whole)
