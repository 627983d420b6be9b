"""Continuations: what the model would write, each row under its own edit."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from lga_fast.errors import ScoringError
from lga_fast.forward.decoding import greedy
from lga_fast.metrics._generation import Continuation, generate
from tests.models.edits import bits, make_edit

FAMILIES = ["gpt2", "llama", "gemma3", "qwen3", "mistral", "opt"]
PROMPTS = [
    "The capital of France is",
    "In which city does the tower stand? It stands in",
    "Q: Who wrote the long book? A:",
    "The mother tongue of Ann",
]


def asked(tokens=24, **options):
    return [Continuation(prompt, tokens, **options) for prompt in PROMPTS]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_the_models_own_decoding(family):
    model = tiny.model(family)
    ids = [model.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    expected = greedy(model, ids, [24 - len(i) for i in ids])
    found = generate(model, asked())
    for start, new, got in zip(ids, expected, found, strict=True):
        assert got.text == model.tokenizer.decode([*start, *new], skip_special_tokens=True)
        assert got.continuation == model.tokenizer.decode(new, skip_special_tokens=True)
        assert len(new) > 0


@pytest.mark.parametrize("sampler", ["greedy", "top5"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_edits_is_one_edited_model_after_another(family, sampler):
    model = tiny.model(family)
    edits = [make_edit(model, [1, 3], 2, 1, 0.5), None, make_edit(model, [4], 1, 2, 0.5)]
    edits.append(edits[0])
    asks = asked(sampler=sampler)
    expected = []
    for ask, edit in zip(asks, edits, strict=True):
        if edit is None:
            expected += generate(model, [ask])
        else:
            with model.edited(edit):
                expected += generate(model, [ask])
    assert generate(model, asks, edits) == expected
    assert generate(model, asks, edits, batch_tokens=50) == expected
    plain = generate(model, asks)
    assert [a == b for a, b in zip(plain, expected, strict=True)] == [
        edit is None for edit in edits
    ]


def test_a_text_has_so_many_tokens_in_all():
    model = tiny.model("gpt2", torch.float32)
    count = [len(model.tokenizer(p)["input_ids"]) for p in PROMPTS]
    lengths = []
    model.tokenizer = _Counting(model.tokenizer, lengths)
    generate(model, asked(12, past_end=True))
    assert lengths[::2] == [max(12, n) for n in count] and max(count) > 12
    assert lengths[1::2] == [max(12, n) - n for n in count]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "llama"])
def test_no_row_is_longer_than_the_model_takes(family):
    """Nor do the padding beside a long prompt, or a row that is done, take more places."""
    model = tiny.model(family, torch.float32)
    lengths = []
    model.tokenizer = _Counting(model.tokenizer, lengths)
    nearly, full = "a " * 60, "a " * 100
    asks = [Continuation(p, 10_000, past_end=True) for p in (PROMPTS[0], nearly, full)]
    found = generate(model, asks)
    assert lengths[:4:2] == [model.max_tokens] * 2 and lengths[5] == 0
    assert found[2].text == full
    assert found == [generate(model, [ask])[0] for ask in asks]


class _Counting:
    def __init__(self, tokenizer, lengths):
        self.tokenizer, self.lengths = tokenizer, lengths

    def __call__(self, *args, **kwargs):
        return self.tokenizer(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def decode(self, ids, **options):
        self.lengths.append(len(ids))
        return self.tokenizer.decode(ids, **options)


def test_a_text_ends_at_an_end_of_text_token_or_goes_on(monkeypatch):
    model = tiny.model("gpt2", torch.float32)
    ids = model.tokenizer(PROMPTS[0])["input_ids"]
    second = greedy(model, [ids], [2])[0][1]
    longer = generate(model, asked(30)[:1])[0].continuation
    monkeypatch.setattr(model, "end_ids", lambda: {second})
    ended = generate(model, asked(30)[:1])[0].continuation
    assert longer.startswith(ended) and len(ended) < len(longer)
    beyond = generate(model, asked(30, past_end=True)[:1])[0].continuation
    assert beyond == longer


def test_samples_repeat_with_their_seed_only():
    model = tiny.model("llama", torch.float32)
    first = generate(model, asked(sampler="top5"))
    assert generate(model, asked(sampler="top5")) == first
    assert generate(model, asked(sampler="top5", seed=7)) != first
    assert generate(model, asked()) != first
    alone = [generate(model, [ask])[0] for ask in asked(sampler="top5")]
    assert alone == first


def test_samples_are_of_the_five_most_likely():
    model = tiny.model("llama", torch.float32)
    ids = model.tokenizer(PROMPTS[0])["input_ids"]
    with torch.no_grad(), model.frozen():
        log_p = model.hf(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    best = {model.tokenizer.decode([t]) for t in log_p.topk(5).indices.tolist()}
    one = Continuation(PROMPTS[0], len(ids) + 1, sampler="top5", past_end=True)
    asks = [dataclasses.replace(one, seed=seed) for seed in range(200)]
    assert {c.continuation for c in generate(model, asks)} == best


def test_the_model_stays_as_it_was_and_odd_input_is_refused():
    model = tiny.model("gemma3", torch.float32)
    before, rng = bits(model), torch.get_rng_state()
    generate(model, asked(sampler="top5"), [make_edit(model)] * len(PROMPTS))
    assert bits(model) == before and torch.equal(torch.get_rng_state(), rng)
    assert model.hf.training and not any(m._forward_hooks for m in model.hf.modules())
    with pytest.raises(ScoringError, match="one per prompt, 4, got 1"):
        generate(model, asked(), [None])
    with pytest.raises(ScoringError, match="got an empty one"):
        generate(model, [Continuation("")])
    assert generate(model, []) == []
