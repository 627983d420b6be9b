"""Edits found under streamed weights: the resident edits, with the readings that were promised."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from both_placements import both

import lga_fast
from lga_fast import distributed, memory
from lga_fast.distributed import Ranks
from lga_fast.editors import _contexts, _cost_messages, _moments, _value_solver
from lga_fast.errors import EditError
from tests.editors.value_cases import CONTEXTS, HOW, REQUESTS

FACTS = [
    {"prompt": "The mother tongue of Danielle Darrieux is", "subject": "Danielle Darrieux"}
    | {"target_new": "English", "case_id": "0"},
    {"prompt": "The capital of France is", "subject": "France"}
    | {"target_new": "New York", "case_id": "1"},
]
QUICK: dict[str, Any] = {"layer": 2, "steps": 4, "contexts": ("Berlin. ",)}


def assert_same_edit(got, want):
    assert list(got.deltas) == list(want.deltas)
    for name, delta in want.deltas.items():
        assert torch.equal(got.deltas[name].left, delta.left), name
        assert torch.equal(got.deltas[name].right, delta.right), name
    assert got.provenance["losses"] == want.provenance["losses"]


@pytest.mark.parametrize("family", tiny.one_stream())
def test_every_family_gives_the_resident_edits(family, tmp_path):
    models = both(tmp_path, tiny.model(family, torch.float32))
    models[0].recomputes = True  # so that both run the same arithmetic
    wanted, found = (lga_fast.edit_each(model, FACTS, "r_rome", **QUICK) for model in models)
    for got, want in zip(found, wanted, strict=True):
        assert_same_edit(got, want)
        assert len(want.provenance["losses"][0]) == 4


@pytest.mark.filterwarnings("ignore:request")
@pytest.mark.parametrize("editor", ["rome", "emmet", "memit", "pmet", "alphaedit"])
def test_every_editor_in_the_arithmetic_that_each_side_has(editor, tmp_path, monkeypatch):
    """Second moments too: they are kept apart."""
    models = both(tmp_path / "model", tiny.model("llama", torch.float32), dtype="float64")
    options: dict[str, Any] = QUICK | {"mom2_tokens": 600}
    if editor == "rome":
        options |= {"mom2_adjustment": True}
    elif editor == "memit":
        options |= {"layers": (1, 2)}
    edits = []
    for i, model in enumerate(models):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{i}"))
        edits.append(lga_fast.edit(model, FACTS, editor, **options))
    wanted, found = edits
    for name, want in wanted.deltas.items():
        got = found.deltas[name]
        exact, product = want.left @ want.right.T, got.left @ got.right.T
        assert (product - exact).norm() <= 1e-6 * exact.norm()  # factors are float32


@pytest.mark.parametrize("family", ["gpt2", "mistral", "falcon"])
def test_contexts_are_the_resident_ones(family, tmp_path):
    resident, streamed = both(tmp_path, tiny.model(family, torch.float64), dtype="float64")
    before = streamed.shards.bytes_read
    assert _contexts.generate(streamed, lengths=(3, 6), per_seed=2) == _contexts.generate(
        resident, lengths=(3, 6), per_seed=2
    )
    read = streamed.shards.bytes_read - before
    assert read <= 5.2 * (streamed.sweep_bytes() + streamed.head_read_bytes())


def test_a_step_reads_the_blocks_from_the_layer_on_twice_for_all_facts(
    tmp_path, capsys, monkeypatch
):
    _, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    streamed.fingerprint()
    facts = [fact | {"case_id": str(i)} for i, fact in enumerate(FACTS * 3)]
    before = streamed.shards.bytes_read
    with _cost_messages.verbose_costs():
        edits = lga_fast.edit_each(streamed, facts, "r_rome", **QUICK)
    assert [len(edit.provenance["losses"][0]) for edit in edits] == [4] * 6  # and 3 backwards
    blocks, head = streamed.sweep_bytes(2), streamed.head_read_bytes()
    promised = streamed.sweep_bytes() + 7 * blocks + 5 * head
    assert promised <= streamed.shards.bytes_read - before <= 1.05 * promised
    log = capsys.readouterr().err
    assert "editing 6 facts at layer 2 with streamed weights, all at once: up to 4 steps" in log
    assert f"each reads blocks 2 to 4 twice, 2 x {memory.format_bytes(blocks)}" in log
    with _cost_messages.verbose_costs():
        lga_fast.edit(streamed, FACTS, "r_rome", **QUICK)
    log = capsys.readouterr().err
    assert "2 facts one after another" in log and "editing 1 fact at layer 2" in log
    lga_fast.edit_each(streamed, FACTS, "r_rome", **QUICK)
    monkeypatch.setattr(distributed, "current", lambda: Ranks(1, 2))
    with _cost_messages.verbose_costs():
        lga_fast.edit_each(streamed, FACTS, "r_rome", **QUICK)
    assert "streamed weights" not in capsys.readouterr().err  # nobody asked; then the first says it


def test_layers_share_the_readings_of_a_step(tmp_path, capsys):
    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32), dtype="float64")
    streamed.fingerprint()
    before, how = streamed.shards.bytes_read, {"layers": [1, 3], "contexts": CONTEXTS}
    with _cost_messages.verbose_costs():
        found = _value_solver.optimise_at(streamed, **how, requests=REQUESTS, optimisation=HOW)
    read, head = streamed.shards.bytes_read - before, streamed.head_read_bytes()
    promised = streamed.sweep_bytes() + 11 * streamed.sweep_bytes(1) + 7 * head  # of six steps
    assert promised <= read <= 1.05 * promised
    log = capsys.readouterr().err
    assert "editing 3 facts at layers 1, 3 with streamed weights, all at once" in log
    wanted = _value_solver.optimise_at(resident, **how, requests=REQUESTS, optimisation=HOW)
    for n in (1, 3):
        for got, want in zip(found[n], wanted[n], strict=True):
            assert got.losses == pytest.approx(want.losses, rel=1e-9)
            torch.testing.assert_close(got.delta, want.delta, rtol=1e-8, atol=1e-10)


def test_what_does_not_fit_is_read_for_in_batches_and_contexts_are_said_too(
    tmp_path, capsys, monkeypatch
):
    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32), dtype="float64")
    wanted = lga_fast.edit_each(resident, FACTS, "r_rome", **QUICK)
    left = 30 * streamed.memory.step_bytes(1)
    monkeypatch.setattr("lga_fast.streaming.streamed_memory.StreamedMemory.activation_budget", left)
    with _cost_messages.verbose_costs():
        found = lga_fast.edit_each(streamed, FACTS, "r_rome", **QUICK)
        assert "editing 2 facts at layer 2 with streamed weights, in 2 batches" in (
            capsys.readouterr().err
        )
        lga_fast.edit_each(streamed, FACTS, "r_rome", **QUICK | {"contexts": None, "steps": 1})
        once = memory.format_bytes(streamed.sweep_bytes() + streamed.head_read_bytes())
        assert f"sampling 20 contexts with streamed weights: 9 x {once} read" in (
            capsys.readouterr().err
        )
    for got, want in zip(found, wanted, strict=True):
        for name, delta in want.deltas.items():
            assert torch.allclose(got.deltas[name].left, delta.left, atol=1e-6)


def test_second_moments_read_the_blocks_below_once(tmp_path):
    resident, streamed = both(tmp_path, tiny.model("gpt2", torch.float32))
    text: dict[str, Any] = {"tokens": 400, "batch_tokens": 128}
    wanted = _moments.moments(resident, [1, 2], **text)
    streamed.fingerprint()
    before = streamed.shards.bytes_read
    found = _moments.moments(streamed, [1, 2], **text)
    assert all(torch.equal(found[n].second, wanted[n].second) for n in (1, 2))
    read = streamed.shards.bytes_read - before
    below = streamed.sweep_bytes() - streamed.sweep_bytes(3)
    assert below <= read < below + 400 * 32 * 4 + 128


@pytest.mark.parametrize("mode", ["single", "sequential", "batch"])
def test_evaluations_are_the_resident_ones(mode, tmp_path):
    models = both(tmp_path, tiny.model("llama", torch.float32), dtype="float64")
    wanted, found = (
        lga_fast.evaluate(
            model, FACTS, "r_rome", mode=mode, metrics=("rewrite", "locality"), **QUICK
        )
        for model in models
    )
    for got, want in zip(found, wanted, strict=True):
        assert got.before == want.before and got.after == want.after


def test_experts_are_refused_as_ever(tmp_path):
    _, streamed = both(tmp_path, tiny.model("mixtral", torch.float32))
    with pytest.raises(EditError, match="experts cannot be edited"):
        lga_fast.edit(streamed, FACTS, **QUICK)
