"""Batches run together, decoded together: streamed weights give the resident model's bits."""

from __future__ import annotations

from contextlib import contextmanager, suppress

import pytest
import tiny
import torch
from both_placements import both

from lga_fast.forward.decoding import decode, greedy_batches, steps_of
from lga_fast.models import ForwardJob

ROWS = [[5, 6, 7, 8], [9, 10, 11], [12, 13], [14, 15, 16, 17, 18]]


class Enough(Exception):
    """All that a test wants is known."""


@pytest.fixture
def models(tmp_path):
    """A small Gemma 2, resident and streamed."""
    return both(tmp_path, tiny.model("gemma2", torch.float32))


def jobs_of(**inputs) -> list[ForwardJob]:
    last = torch.zeros(1, dtype=torch.long)
    return [
        ForwardJob({"input_ids": torch.tensor([row]), **inputs}, last, last + len(row) - 1)
        for row in ROWS
    ]


def test_groups_are_what_shares_a_reading(models):
    resident, streamed = models
    assert resident.groups([3, 4, 5], 7) == [[0], [1], [2]]
    assert streamed.groups([3, 4, 5], 7) == [[0, 1], [2]]
    assert streamed.groups([9, 1], 7) == [[0], [1]]  # one at least, however large
    assert resident.groups([], 7) == streamed.groups([], 7) == []


def test_logits_and_caches_of_batches_that_run_together(models):
    resident, streamed = models
    with torch.no_grad(), resident.frozen(), streamed.frozen():
        wanted = list(resident.logits_of(jobs_of(use_cache=True)))
        before = streamed.shards.bytes_read
        logits = list(streamed.logits_of(jobs_of(use_cache=True)))
        read = streamed.shards.bytes_read - before
        assert all(cache is None for _, cache in resident.logits_of(jobs_of(use_cache=False)))
    assert read < 1.2 * (streamed.sweep_bytes() + streamed.head_read_bytes())  # with embeddings
    for (one, cache), (other, other_cache) in zip(logits, wanted, strict=True):
        assert torch.equal(one, other)
        for mine, its in zip(cache.layers, other_cache.layers, strict=True):
            assert torch.equal(mine.keys, its.keys) and torch.equal(mine.values, its.values)


@pytest.mark.parametrize("layer", [0, 2])
def test_batches_run_for_their_hooks_and_no_further(models, layer):
    """Also as the first thing that a model does, when it learns what its blocks return."""
    inputs = []
    for model in models:
        running, seen = [], {}

        @contextmanager
        def within(i, running=running):
            running.append(i)
            with suppress(Enough):
                yield
            running.remove(i)

        def see(module, args, running=running, seen=seen):
            if running:
                seen[running[0]] = args[0].clone()
                raise Enough

        jobs = [
            ForwardJob({**job.inputs, "use_cache": False}, within=lambda i=i, w=within: w(i))
            for i, job in enumerate(jobs_of())
        ]
        before = model.shards.bytes_read if model.streamed else 0
        handle = model.matrix(layer, "down").register_forward_pre_hook(see)
        with torch.no_grad(), model.frozen():
            model.run_batches(jobs, layer + 1)
        handle.remove()
        inputs.append(seen)
        if model.streamed:
            below = model.sweep_bytes() - model.sweep_bytes(layer + 1)
            assert below <= model.shards.bytes_read - before < below + model.sweep_bytes(3)
    assert len(inputs[0]) == len(ROWS)
    assert all(torch.equal(inputs[1][i], inputs[0][i]) for i in inputs[0])


def test_greedy_answers_are_those_of_transformers(models):
    resident, streamed = models
    batches = [(ROWS[:3], [6, 0, 3]), (ROWS[3:], [4])]
    answers = greedy_batches(resident, batches)
    assert greedy_batches(streamed, batches) == answers
    for (prompts, lengths), rows in zip(batches, answers, strict=True):
        for prompt, length, row in zip(prompts, lengths, rows, strict=True):
            assert len(row) <= length
            if not length:
                continue
            ids = torch.tensor([prompt])
            alone = resident.hf.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False
            )
            assert row == [
                t for t in alone[0, len(prompt) :].tolist() if t not in resident.end_ids()
            ]


def test_a_batch_without_anything_to_decode_runs_nothing(models, monkeypatch):
    for model in models:
        monkeypatch.setattr(model, "logits_of", lambda jobs: pytest.fail("a forward ran"))
        assert decode(model, [steps_of(model, ROWS[:1], [0], [set()])], 0) == [[[]]]
