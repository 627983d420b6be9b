"""Batches keep within tokens and memory, and lose nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch
from both_placements import both

from lga_fast import memory, score_layers
from lga_fast.forward.decoding import decode_groups
from lga_fast.records import EditRequest

EDITS = [
    EditRequest(str(i), "The capital of France is " + "Paris " * i, "Rome and more", target_old="A")
    for i in range(12)
]


@pytest.mark.parametrize("limit", [1, 7, 20, 10**9])
def test_batches_hold_everything_once_and_keep_the_limit(limit):
    lengths = {i: (7 * i) % 11 + 1 for i in range(30)}
    groups = memory.batches(lengths, limit)
    assert sorted(i for group in groups for i in group) == list(lengths)
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= limit
    widths = [lengths[i] for group in groups for i in group]
    assert widths == sorted(widths, reverse=True)
    assert memory.batches({}, limit) == []


def forwards(model, monkeypatch) -> list[int]:
    """Tokens of each forward of a scoring pass."""
    tokens, real = [], model.logits_at

    def counting(input_ids, *rest, **more):
        tokens.append(input_ids.numel())
        return real(input_ids, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(model, "logits_at", counting)
        score_layers(model, EDITS, old="ground_truth")
    return tokens


def test_a_memory_budget_makes_batches_smaller(monkeypatch):
    model = tiny.model("llama", torch.float32)
    # packed pairs and the rest, each of like lengths
    assert len(forwards(model, monkeypatch)) <= 4
    model.memory_budget = 100 * model.memory.token_bytes()
    assert max(forwards(model, monkeypatch)) < 100
    model.memory_budget = 1  # what cannot be halved further still runs: one pair at a time
    assert len(forwards(model, monkeypatch)) == len(EDITS)


def test_without_a_budget_half_of_what_is_free_is_used():
    import psutil

    half = psutil.virtual_memory().available / 2
    assert tiny.model("gpt2").memory.activation_budget == pytest.approx(half, rel=0.2)


def test_what_torch_keeps_of_a_device_is_free(monkeypatch):
    """A second pass of a process plans the batches of the first, and so rounds alike."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6 << 30, 16 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 << 30)
    config = SimpleNamespace(hidden_size=8)
    model = SimpleNamespace(
        device=torch.device("cuda"),
        dtype=torch.float32,
        config=config,
        layers=2,
        memory_budget=None,
    )
    assert memory.Memory(model).budget == 5 << 30  # half of 6 + (5 - 1)
    model.memory_budget = 7
    assert memory.Memory(model).budget == 7


def test_batches_that_are_decoded_in_step_keep_the_limits(tmp_path):
    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    widths = {i: 5 + i % 3 for i in range(9)}
    for model in (resident, streamed):
        found = decode_groups(model, widths, 14, 30)
        tokens = [[len(batch) * widths[batch[0]] for batch in group] for group in found]
        assert sorted(i for group in found for batch in group for i in batch) == list(widths)
        assert max(max(sizes) for sizes in tokens) <= 14
        assert max(map(sum, tokens)) <= 30 and decode_groups(model, {}, 14) == []
        assert (max(map(len, found)) > 1) == (model is streamed)
    # Activations of one block, and keys and values of all.
    resident.memory_budget = 8 * resident.memory.token_bytes() // resident.layers
    assert len(decode_groups(resident, widths, 4096)) == len(widths)
