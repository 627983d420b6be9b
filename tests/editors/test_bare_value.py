"""bare_value: δ is the bare prompt's, keys and outputs are those of all contexts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from both_placements import both

import lga_fast
from lga_fast.editors import _keys, _value_solver
from lga_fast.records import EditRequest
from lga_fast.sweep.layer_edits import forwards

pytestmark = pytest.mark.usefixtures("keep_double")

REQUESTS = [
    EditRequest("a", "The tower of Paris stands in", "New York", "Paris", (13, 18)),
    EditRequest("b", "The capital of France is", "Rome", "France", (15, 21)),
]
CONTEXTS = ("", "The book. ", "Nobody knows that. ")
LAYERS = [1, 3]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "opt", "granitemoehybrid-dense"])
def test_the_value_is_the_bare_prompts_and_the_keys_are_of_all(family):
    model = tiny.model(family)
    how = _value_solver.Optimisation(steps=4, weight_decay=1e-3, bare_value=True)
    # a batch of one request at a time: they come back in their order
    found = _value_solver.optimise_at(model, LAYERS, REQUESTS, CONTEXTS, how, batch_tokens=1)
    for layer in LAYERS:
        for request, value in zip(REQUESTS, found[layer], strict=True):
            (bare,) = _value_solver.optimise(model, layer, [request], [""], how)
            (every,) = _value_solver.optimise(model, layer, [request], CONTEXTS, how_in_full(how))
            close = {"rtol": 1e-9, "atol": 1e-12}
            torch.testing.assert_close(value.delta, bare.delta, **close)
            torch.testing.assert_close(value.keys, every.keys, **close)
            torch.testing.assert_close(value.outputs, every.outputs, **close)
            assert value.delta.norm() > 0 and not torch.allclose(value.delta, every.delta)


def how_in_full(how):
    """The same settings on all contexts."""
    return replace(how, bare_value=False)


@pytest.mark.filterwarnings("ignore:request")
@pytest.mark.parametrize("editor", ["rome", "r_rome", "memit", "emmet", "pmet", "alphaedit"])
def test_an_edit_is_along_the_mean_key_and_counts_its_rows(editor):
    model = tiny.model("gpt2", torch.float32)
    options = {"layer": 2, "contexts": CONTEXTS, "steps": 3}
    cheap, full = (
        lga_fast.edit(model, REQUESTS[:1], editor, bare_value=bare, **options)
        for bare in (True, False)
    )
    (name,) = cheap.deltas
    cosine = torch.cosine_similarity(cheap.deltas[name].right, full.deltas[name].right, dim=0)
    torch.testing.assert_close(cosine.abs(), torch.ones(1), rtol=0, atol=1e-5)
    assert not torch.allclose(cheap.deltas[name].left, full.deltas[name].left)
    # three forwards and two backwards of two rows or four; the cheap one reads two contexts once
    assert (forwards(cheap), forwards(full)) == (5 * 2 + 2, 5 * 4)


def test_it_stops_where_the_answer_is_likely_enough():
    model, facts = lga_fast.load("atlas", device="cpu"), lga_fast.load_edits("atlas", limit=3)
    for fact in facts:
        how = {"layer": 2, "contexts": (), "steps": 40}
        cheap, full = (
            lga_fast.edit(model, [fact], bare_value=bare, **how).provenance["losses"][0]
            for bare in (True, False)
        )
        assert cheap[-1] < 0.2 <= min(cheap[:-1])
        # With no other context they are the same until then.
        assert full[: len(cheap)] == cheap and len(full) > len(cheap)


@pytest.mark.parametrize(("layers", "blocks"), [([0, 2], [0, 1, 2]), ([4], [0, 1, 2, 3, 4])])
def test_other_contexts_run_up_to_the_highest_layer(layers, blocks):
    model, ran = tiny.model("llama"), []
    for n in range(model.layers):
        model.part(n, "block").register_forward_hook(lambda *_, n=n: ran.append(n))
    model.hf.lm_head.register_forward_hook(lambda *_: ran.append("head"))
    _keys.of_contexts(model, layers, REQUESTS, CONTEXTS)
    assert ran == blocks


def test_streamed_blocks_are_read_once_for_all_contexts(tmp_path, monkeypatch):
    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32), dtype="float64")
    wanted = _keys.of_contexts(resident, [0, 2], REQUESTS, CONTEXTS)
    monkeypatch.setattr(_keys, "_BATCH_TOKENS", 8)
    streamed.fingerprint()
    before = streamed.shards.bytes_read
    found = _keys.of_contexts(streamed, [0, 2], REQUESTS, CONTEXTS)
    read, below = streamed.shards.bytes_read - before, streamed.sweep_bytes(3)
    assert streamed.sweep_bytes() - below <= read < 1.1 * (streamed.sweep_bytes() - below)
    for n in (0, 2):
        torch.testing.assert_close(found[n], wanted[n], rtol=1e-9, atol=1e-11)
