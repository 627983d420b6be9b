"""Models without a family file are streamed too: a guess needs few of their weights."""

from __future__ import annotations

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

import lga_fast
from lga_fast.errors import LgaFastError, UnsupportedModel
from lga_fast.models import families
from lga_fast.streaming.checkpoint import Checkpoint
from tests.both_placements import REQUESTS, assert_same_bits, both


@pytest.fixture(autouse=True)
def nobody_knows_a_family(monkeypatch):
    monkeypatch.setattr(families, "find", lambda config: None)


# Tied to the embedding, of two kinds, with experts.
@pytest.mark.parametrize("family", ["gpt2", "qwen3_5_text", "mixtral"])
def test_a_guessed_model_gives_the_same_bits_streamed(family, tmp_path):
    resident, streamed = both(tmp_path, tiny.model(family, torch.float32), dtype="float32")
    assert "were guessed" in resident.family_guess
    assert (streamed.family_guess, streamed.family) == (resident.family_guess, resident.family)
    assert streamed.fingerprint() == resident.fingerprint()
    scores = [lga_fast.score_layers(model, REQUESTS) for model in (streamed, resident)]
    assert_same_bits(*scores)
    assert all(p.is_meta for block in streamed._blocks for p in block.parameters())


def test_a_guess_reads_the_first_and_the_last_block_of_each_kind(tmp_path, monkeypatch):
    read, seen = Checkpoint.read, []
    monkeypatch.setattr(
        Checkpoint, "read", lambda self, names: read(self, [seen.append(n) or n for n in names])
    )
    _, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    assert streamed.layers > 2
    layers = {int(name.split(".")[2]) for name in seen if name.startswith("model.layers.")}
    assert layers == {0, streamed.layers - 1}


def test_a_guess_that_does_not_fit_the_budget_is_not_begun(tmp_path):
    model = tiny.model("llama", torch.float32)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(LgaFastError, match=r"takes .* KiB \(2 of its blocks .*memory_budget is 10"):
        lga_fast.load(tmp_path, device="cpu", weights="streamed", memory_budget="10KiB")


def test_what_is_not_understood_is_refused_as_it_is_in_memory(tmp_path):
    AutoModelForCausalLM.from_config(tiny.config("gemma3n_text")).save_pretrained(tmp_path)
    tiny.byte_level().save_pretrained(tmp_path)
    said = []
    for weights in ("resident", "streamed"):
        with pytest.raises(UnsupportedModel, match="cannot be guessed: block 0 has") as caught:
            lga_fast.load(tmp_path, device="cpu", weights=weights)
        said.append(str(caught.value))
    assert said[0] == said[1]
