"""Activations that do not fit are computed twice: the same bits, in less memory."""

from __future__ import annotations

import warnings
from weakref import WeakSet

import pytest
import tiny
import torch
from both_placements import REQUESTS, assert_same_bits

from lga_fast import registry, score_layers
from lga_fast.errors import UnsupportedModel
from lga_fast.models.block_runner import BlockRunner
from lga_fast.records import EditRequest
from lga_fast.scoring import batch_layout, estimate_cost, score, scoring_pass
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.scoring_pass import ScoringPass

LONG = EditRequest("long", "The capital of France is Paris. " * 5 + "Rome is", "in Italy", "A")


@pytest.fixture
def all_checkpointed(monkeypatch):
    """Every batch is checkpointed, and no other than it would be."""

    def plan_batches(model, *args):
        assert model.block_runner() is not None
        planned = batch_layout.plan_batches(model, *args)
        return [batch._replace(checkpointed=True) for batch in planned]

    def patch():
        monkeypatch.setattr(score, "plan_batches", plan_batches)

    return patch


@pytest.mark.parametrize("family", registry.names("lga_fast.models.families"))
def test_every_family_gives_the_same_bits(family, all_checkpointed):
    """Packed and separate rows, several batches, sliding windows, experts, absolute sums."""
    model = tiny.model(family, torch.float32)
    if not model.restarts:  # its activations have to fit
        assert model.block_runner() is None
        return
    before = {name: p.clone() for name, p in model.hf.state_dict().items()}
    options = {"batch_tokens": 60, "abs_new": True, "old": "ground_truth"}
    want = [score_layers(model, REQUESTS, **options), score_layers(model, REQUESTS, old=None)]
    all_checkpointed()
    assert_same_bits(score_layers(model, REQUESTS, **options), want[0])
    assert_same_bits(score_layers(model, REQUESTS, old=None), want[1])
    assert all(torch.equal(before[n], p) for n, p in model.hf.state_dict().items())
    assert not any(m._forward_hooks or "forward" in vars(m) for m in model.hf.modules())


class _Saved:
    """Something that a graph keeps."""

    def __init__(self, tensor):
        self.tensor = tensor.detach()  # not itself, which may keep the graph in its turn


class _Peak(torch.autograd.graph.saved_tensors_hooks):
    """The most bytes that graphs keep at once, but for weights."""

    def __init__(self, model):
        self.most, self._held = 0, WeakSet()
        self._weights = {p.untyped_storage().data_ptr() for p in model.hf.parameters()}
        super().__init__(self._keep, lambda saved: saved.tensor)

    def _keep(self, tensor):
        saved = _Saved(tensor)
        self._held.add(saved)
        storages = (one.tensor.untyped_storage() for one in self._held)
        kept = {storage.data_ptr(): storage.nbytes() for storage in storages}
        kept = [size for at, size in kept.items() if at not in self._weights]
        self.most = max(self.most, sum(kept))
        return saved


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_one_block_is_kept_at_a_time(family, all_checkpointed):
    model, peaks = tiny.model(family, torch.float32, num_hidden_layers=8), []
    for _ in range(2):
        peak = _Peak(model)
        with peak:
            score_layers(model, [LONG], old=None)
        peaks.append(peak.most)
        all_checkpointed()
    assert 0 < peaks[1] < peaks[0] / 4
    tokens = estimate_cost(model, [LONG], ScoringOptions(None)).batch_tokens
    logits = 10 * model.memory.logit_bytes
    assert peaks[1] <= tokens * model.memory.token_bytes(checkpointed=True) + logits


def test_the_plan_chooses_and_says_so(monkeypatch, capsys):
    """Facts that fit run as ever; those that do not fit alone go together as far as they do."""
    model, requests = tiny.model("llama", torch.float32, num_hidden_layers=20), [LONG, *REQUESTS]
    requests += [EditRequest("longer", f"{LONG.prompt} in", LONG.target_new, LONG.target_old)]
    want = score_layers(model, requests, old=None)
    model.memory_budget = 40 * model.memory.token_bytes() + 8 * model.memory.logit_bytes
    ran, real = [], scoring_pass.ScoringPass.run
    monkeypatch.setattr(
        scoring_pass.ScoringPass, "run", lambda self, b: ran.append(b.pairs) or real(self, b)
    )
    said = estimate_cost(model, requests, ScoringOptions(None))
    assert said.checkpointed == 1 < said.batches and said.activation_bytes <= model.memory_budget
    told = f"checkpointed: 1 of {said.batches} batches keep only what enters their blocks"
    assert told in str(said)
    got = score_layers(model, requests, old=None, show_progress=True)
    assert told in capsys.readouterr().err
    assert sorted(i for pairs in ran for i in pairs) == [1, 2, 3, 4]
    for name, norm in want.norm2_new.items():
        assert got.norm2_new[name] == pytest.approx(norm, rel=1e-3)
    model.memory_budget = None
    assert not estimate_cost(model, requests, ScoringOptions(None)).checkpointed


def test_memory_that_runs_out_with_one_pair_is_answered_by_checkpointing(monkeypatch):
    model, calls = tiny.model("gpt2", torch.float32), []
    want = score_layers(model, REQUESTS, old=None, batch_tokens=1)

    def failing(self, batch):
        calls.append(len(batch.pairs))
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(ScoringPass, "run", failing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = score_layers(model, REQUESTS, old=None)
    told = [str(w.message) for w in caught if "out of memory" in str(w.message)]
    assert len(told) == 2 and "starts over with half as many" in told[0]
    assert "starts over, keeping only what enters the blocks" in told[1]
    assert calls == sorted(calls, reverse=True) and calls[-1] == 1
    assert_same_bits(got, want)


def test_a_model_whose_blocks_cannot_run_alone_runs_as_ever(monkeypatch):
    model = tiny.model("gpt2", torch.float32)
    want = score_layers(model, REQUESTS, old=None, batch_tokens=1)

    def refused(self):
        raise UnsupportedModel("no")

    monkeypatch.setattr(BlockRunner, "check", refused)
    model.memory_budget = 1
    said = estimate_cost(model, REQUESTS, ScoringOptions(None))
    assert not said.checkpointed
    assert_same_bits(score_layers(model, REQUESTS, old=None), want)
