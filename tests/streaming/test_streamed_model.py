"""Loading a streamed model: what is in memory, what is refused."""

from __future__ import annotations

import json
import warnings

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import lga_fast
from lga_fast.errors import LgaFastError
from lga_fast.streaming.placement import choose_weights
from lga_fast.streaming.streamed_model import StreamedModel


@pytest.fixture
def folder(tmp_path):
    """Folder of a small Llama in one file."""
    model = tiny.model("llama", torch.float32)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def streamed(path, **options) -> StreamedModel:
    model = lga_fast.load(path, device="cpu", weights="streamed", **options)
    assert isinstance(model, StreamedModel)
    return model


def test_two_blocks_are_in_memory_at_most(folder):
    model, seen = streamed(folder), []
    assert all(p.is_meta for p in model.part(0, "block").parameters())
    read = model.shards.read
    model.shards.read = lambda names: seen.append("read") or read(names)
    for layer in model.block_runner().walk([0, 1, 2, 1]):
        loaded = [not next(b.parameters()).is_meta for b in model._blocks]
        assert loaded == [i == layer for i in range(model.layers)]
        seen.append(layer)
    assert [step for step in seen if step != "read"] == [0, 1, 2, 1]
    assert seen.count("read") == 4
    assert all(seen[: 2 * k + 3].count("read") <= k + 2 for k in range(3))  # one ahead, not more
    assert all(p.is_meta for p in model.part(0, "block").parameters())


def test_only_rows_of_the_tokens_in_use_are_read(folder):
    model = streamed(folder)
    whole = lga_fast.load(folder, device="cpu").hf.get_input_embeddings()
    embedding, ids = model.hf.get_input_embeddings(), torch.tensor([[5, 7, 5], [390, 0, 8]])
    before = model.shards.bytes_read
    assert torch.equal(embedding(ids), whole(ids))
    assert torch.equal(embedding(ids[:, :1] + 1), whole(ids[:, :1] + 1))
    assert model.shards.bytes_read - before == 7 * 32 * 4  # 5 7 390 0 8, then 6 391


def test_the_vision_tower_is_not_loaded(tmp_path):
    model = tiny.model("gemma3", torch.float32)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    read, lazy = [], streamed(tmp_path)
    inner = lazy.shards.read
    lazy.shards.read = lambda names: inner([read.append(name) or name for name in names])
    lga_fast.score_layers(lazy, [{"prompt": "Paris is in", "target_new": "Rome"}])
    assert read and not any("vision" in name or "projector" in name for name in read)
    assert all(p.is_meta for n, p in lazy.hf.named_parameters() if "vision" in n)


@pytest.mark.parametrize("family", ["gpt_neo", "gemma3", "phi"])
def test_computed_buffers_are_those_of_a_resident_model(family, tmp_path):
    model = tiny.model(family, torch.bfloat16)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    resident, lazy = lga_fast.load(tmp_path, device="cpu"), streamed(tmp_path)
    wanted, found = (dict(m.hf.named_buffers()) for m in (resident, lazy))
    computed = set(wanted) - set(resident.hf.state_dict())
    assert computed
    for name in computed:
        assert found[name].dtype == wanted[name].dtype and torch.equal(found[name], wanted[name])


def test_a_buffer_that_nothing_computes_is_refused(folder, monkeypatch):
    from transformers.models.llama import modeling_llama

    real = modeling_llama.LlamaRotaryEmbedding.__init__

    def more(self, *args, **kwargs):
        real(self, *args, **kwargs)
        self.register_buffer("wobble", torch.arange(3.0), persistent=False)

    monkeypatch.setattr(modeling_llama.LlamaRotaryEmbedding, "__init__", more)
    with pytest.raises(LgaFastError, match="does not compute.*: model.rotary_emb.wobble. Load it"):
        streamed(folder)


def test_a_model_that_changes_hidden_states_between_blocks_is_refused(folder):
    model = streamed(folder)
    facts = [{"prompt": "Paris is in", "target_new": "Rome"}]
    lga_fast.score_layers(model, facts)
    block = model.part(2, "block")
    handle = block.register_forward_pre_hook(lambda module, args: (2 * args[0], *args[1:]))
    with pytest.raises(LgaFastError, match="does not hand hidden states .*seen at block 2"):
        lga_fast.score_layers(model, facts)
    handle.remove()
    lga_fast.score_layers(model, facts)


@pytest.mark.parametrize(
    ("family", "old_name"),
    [
        ("gpt2", lambda name: name.removeprefix("transformer.")),
        (
            "gemma3",
            lambda name: name.replace("model.language_model.", "language_model.model.").replace(
                "model.vision_tower", "vision_tower"
            ),
        ),
    ],
)
def test_names_of_older_checkpoints(family, old_name, tmp_path):
    """Without the base model's prefix, under another one, with buffers that are gone by now."""
    model = tiny.model(family, torch.float32)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    useless = {"h.0.attn.bias": torch.ones(3)} if family == "gpt2" else {}
    rewrite(tmp_path, lambda tensors: {old_name(n): t for n, t in tensors.items()} | useless)
    assert any(old_name(n) != n for n in model.hf.state_dict())
    resident = lga_fast.load(tmp_path, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lazy = streamed(tmp_path)
    assert lazy.fingerprint() == resident.fingerprint() == model.fingerprint()
    facts = [{"prompt": "Paris is in", "target_new": "Rome"}]
    want = lga_fast.score_layers(resident, facts).dot
    for name, dot in lga_fast.score_layers(lazy, facts).dot.items():
        assert (dot == want[name]).all()


def rewrite(folder, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})


def test_tensors_that_begin_anywhere_in_their_file(folder):
    """As writers left them that did not pad the header."""
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    odd = length + 3
    file.write_bytes(
        odd.to_bytes(8, "little") + whole[8 : 8 + length] + b"   " + whole[8 + length :]
    )
    resident, lazy = lga_fast.load(folder, device="cpu"), streamed(folder)
    assert lazy.fingerprint() == resident.fingerprint()
    weights = resident.hf.state_dict()
    for name in lazy.shards.names("model.layers.1."):
        read = lazy.shards.read([name])[name]
        assert torch.equal(read, weights[name]) and read.data_ptr() % 4 == 3
    facts = [{"prompt": "Paris is in", "target_new": "Rome"}]
    got, want = (lga_fast.score_layers(model, facts) for model in (lazy, resident))
    assert (got.dot["down.weight"] == want.dot["down.weight"]).all()


def test_tensors_that_the_model_does_not_know_are_counted(folder):
    rewrite(folder, lambda t: t | {f"adapter.{i}": torch.ones(2) for i in range(5)})
    with pytest.warns(UserWarning, match="5 tensors are not of the model .*: adapter.0, adapter.1"):
        streamed(folder)


def test_what_cannot_be_streamed_says_why(folder):
    with pytest.raises(LgaFastError, match="weights='lazy': expected 'resident', 'streamed' or"):
        lga_fast.load(folder, weights="lazy")  # type: ignore[arg-type]
    with pytest.raises(LgaFastError, match="device='auto' spreads weights in memory"):
        lga_fast.load(folder, device="auto", weights="streamed")
    source = tiny.model("gpt2")
    with pytest.raises(LgaFastError, match="a model object has its weights in memory"):
        lga_fast.load(source.hf, tokenizer=source.tokenizer, weights="streamed")
    config = folder / "config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "x"}})
    )
    with pytest.raises(LgaFastError, match="has quantised ones; load it with weights='resident'"):
        streamed(folder)
    placed, why = choose_weights(str(folder), "cpu", None, 1)
    assert placed == "resident" and "quantised ones cannot be streamed" in why
    (folder / "model.safetensors").unlink()
    with pytest.raises(LgaFastError, match="expected its weights in model.safetensors"):
        streamed(folder)
