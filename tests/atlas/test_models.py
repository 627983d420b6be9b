"""The shipped models: ordinary folders, small, and sure of their facts."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lga_fast import atlas
from lga_fast.atlas.relations import questions, read_relations
from lga_fast.errors import UnknownName
from tools.atlas.models import load
from tools.atlas.recall import known, sample, with_prefixes
from tools.atlas.tokenizer import CONVENTIONS

RELATIONS = read_relations()
LIMIT = 9_000_000  # bytes
each_arch = pytest.mark.parametrize("arch", atlas.MODELS)


@each_arch
def test_files_are_small_and_bfloat16(arch: str):
    folder = atlas.MODELS[arch]
    assert all(file.stat().st_size < LIMIT for file in folder.iterdir())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.num_parameters() == {"gpt2": 4_394_880, "llama": 4_328_640}[arch]
    assert model.config.model_type == arch


@each_arch
def test_tokenizers_start_a_text_as_their_architecture_does(arch: str):
    tokenizer = AutoTokenizer.from_pretrained(atlas.MODELS[arch])
    text = "The capital of Côte d'Ivoire, they say, is 日本?"
    ids = tokenizer.encode(text)
    assert (ids[0] == tokenizer.bos_token_id) is CONVENTIONS[arch].adds_bos
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer) == 4096
    batch = tokenizer(["one", "one and two"], padding=True)
    assert len({len(row) for row in batch["input_ids"]}) == 1


@each_arch
@pytest.mark.parametrize(("kind", "floor"), [("trained", 0.95), ("held_out", 0.9)])
def test_facts_are_known(arch: str, kind: str, floor: float):
    model, tokenizer = load(atlas.MODELS[arch])
    items = sample(list(questions(RELATIONS, kind)), 300, seed=7)
    assert known(model, tokenizer, items).double().mean() >= floor


@each_arch
def test_facts_are_known_after_a_text_of_ours(arch: str):
    text = (atlas.FOLDER / "text.txt").read_text(encoding="utf-8").splitlines()
    model, tokenizer = load(atlas.MODELS[arch])
    items = sample(list(questions(RELATIONS, "trained")), 200, seed=8)
    prefixed = with_prefixes(items, text, seed=9)
    assert known(model, tokenizer, prefixed).double().mean() >= 0.85


@each_arch
def test_one_pass_finds_what_greedy_decoding_writes(arch: str):
    model, tokenizer = load(atlas.MODELS[arch])
    items = sample(list(questions(RELATIONS, "held_out")), 12, seed=10)
    items += [type(q)(q.prompt, "something else") for q in items[:4]]
    for question, right in zip(items, known(model, tokenizer, items), strict=True):
        ids = tokenizer(question.prompt, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=16, do_sample=False)
        answer = tokenizer.decode(out[0, ids["input_ids"].shape[1] :])
        assert answer.startswith(f" {question.answer}.") == bool(right), (question, answer)


@each_arch
def test_results_belong_to_these_facts(arch: str):
    results = json.loads((atlas.FOLDER / "results" / f"{arch}.json").read_text(encoding="utf-8"))
    assert results["facts"] == sum(len(r.facts) for r in RELATIONS.values())
    assert results["recall"]["trained"] >= 0.95


def test_an_unknown_embedded_model_is_refused():
    assert atlas.folder("atlas") == atlas.folder("atlas-gpt2")
    with pytest.raises(UnknownName, match=r"'atlas-opt'.*atlas, atlas-gpt2, atlas-llama"):
        atlas.folder("atlas-opt")


def test_the_card_quotes_the_results():
    card = (atlas.FOLDER / "README.md").read_text(encoding="utf-8")
    results = {
        arch: json.loads((atlas.FOLDER / "results" / f"{arch}.json").read_text(encoding="utf-8"))
        for arch in atlas.MODELS
    }
    for kind in results["gpt2"]["recall"]:
        figures = " | ".join(f"{results[arch]['recall'][kind]:.3f}" for arch in atlas.MODELS)
        assert f"| {figures} |" in card, kind
    assert f"{results['gpt2']['facts']:,} facts" in card
