"""Questions and texts under streamed weights: the resident answers, blocks read once for all."""

from __future__ import annotations

import pytest
import tiny
import torch
from both_placements import both

from lga_fast.metrics import Question, measure_cases, score
from lga_fast.metrics._generation import Continuation, generate
from tests.models.edits import make_edit

QUESTIONS = [
    Question("The mother tongue of Danielle Darrieux is", "English"),
    Question("The capital of France is", "New York"),
    Question("In which city does the tower stand? It stands in", "Rome"),
    Question("Paris", "unbelievable answer"),
]


def edits_of(model):
    one, two = make_edit(model, scale=1.0), make_edit(model, layers=(1, 3), rank=2, seed=1)
    return [one, None, two, one]


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "falcon", "opt"])
def test_every_question_under_its_own_edit(family, tmp_path):
    resident, streamed = both(tmp_path, tiny.model(family, torch.float32))
    edits = edits_of(resident)
    streamed.fingerprint()
    wanted = score(resident, QUESTIONS, edits, batch_tokens=16)
    assert wanted != score(resident, QUESTIONS, batch_tokens=16)
    before = streamed.shards.bytes_read
    assert score(streamed, QUESTIONS, edits, batch_tokens=16) == wanted
    read = streamed.shards.bytes_read - before
    once = streamed.sweep_bytes() + streamed.head_read_bytes()
    assert once <= read < 1.2 * once  # with rows of the embedding


def test_batches_that_may_not_wait_together_are_read_for_apart(tmp_path, monkeypatch):
    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    monkeypatch.setattr("lga_fast.streaming.streamed_memory.StreamedMemory.store_budget", 0)
    wanted = score(resident, QUESTIONS, batch_tokens=1)
    before = streamed.shards.bytes_read
    assert score(streamed, QUESTIONS, batch_tokens=1) == wanted
    read = streamed.shards.bytes_read - before
    assert 4 <= read / (streamed.sweep_bytes() + streamed.head_read_bytes()) < 4.2


@pytest.mark.parametrize("family", ["gpt2", "mistral"])
def test_texts_are_written_in_step(family, tmp_path):
    """Greedy and drawn, each by the model that carries its edit; with a sliding window too."""
    resident, streamed = both(tmp_path, tiny.model(family, torch.float64), dtype="float64")
    asks = [
        Continuation(question.prompt, 24, past_end=True, sampler=sampler)
        for question, sampler in zip(QUESTIONS, ("greedy", "top5", "greedy", "top5"), strict=True)
    ]
    edits = edits_of(resident)
    wanted = generate(resident, asks, edits)
    assert wanted != generate(resident, asks)
    streamed.fingerprint()
    before = streamed.shards.bytes_read
    assert generate(streamed, asks, edits, batch_tokens=30) == wanted
    shortest = min(len(streamed.tokenizer(ask.prompt)["input_ids"]) for ask in asks)
    read = streamed.shards.bytes_read - before
    once = streamed.sweep_bytes() + streamed.head_read_bytes()
    assert read < 1.1 * (24 - shortest) * once


def test_a_measure_is_two_readings(tmp_path):
    from lga_fast.metrics import choose
    from lga_fast.records import EditRequest

    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    requests = [EditRequest(q.prompt, q.prompt, q.answer) for q in QUESTIONS]
    metrics = choose(("rewrite", "locality"))
    edits = [make_edit(resident, seed=i) for i in range(4)]
    wanted = measure_cases(resident, requests, edits, metrics)[0]
    streamed.fingerprint()
    before = streamed.shards.bytes_read
    assert measure_cases(streamed, requests, edits, metrics)[0] == wanted
    read = streamed.shards.bytes_read - before
    assert 2 <= read / (streamed.sweep_bytes() + streamed.head_read_bytes()) < 2.1
