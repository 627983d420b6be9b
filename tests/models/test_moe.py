"""Mixtures of experts: scored expert by expert, selected from, never edited."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import lga_fast
from lga_fast.errors import EditError, UnsupportedModel
from lga_fast.models import EditableModel
from lga_fast.models.moe import Experts, Routing
from lga_fast.records import EditRequest
from lga_fast.scoring import batch_layout
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import build_pairs
from tests.scoring.test_score import REQUESTS, autograd, error

FACT = EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris")


@pytest.mark.usefixtures("keep_double")
@pytest.mark.parametrize("family", tiny.MIXTURES)
def test_equals_autograd_on_the_fused_parameters(family, monkeypatch):
    model = tiny.model(family, sliding_window=64)
    pairs, _ = build_pairs(model, REQUESTS)
    wanted = autograd(model, pairs)
    for packed in (True, False):
        monkeypatch.setattr(batch_layout, "packing_pays", lambda pair, packed=packed: packed)
        scores = lga_fast.score_layers(model, REQUESTS)
        for name, tables in wanted.items():
            columns = (scores.dot[name], scores.norm2_old[name], scores.norm2_new[name])
            for got, want in zip(columns, tables, strict=True):
                at = want.any(0)  # layers that have the parameter
                assert error(got[:, at], want[:, at]) <= 1e-10 and not got[:, ~at].any(), name


@pytest.mark.usefixtures("keep_double")
def test_absolute_sums_are_over_all_experts():
    model, fact = tiny.model("olmoe"), [REQUESTS[0]]
    scores = lga_fast.score_layers(model, fact, abs_new=True)
    (pair,), _ = build_pairs(model, fact)
    with model.frozen():
        model.hf.requires_grad_(True)
        logits = model.hf(torch.tensor([pair.new.ids]), use_cache=False).logits[0]
        first = pair.new.start
        labels = torch.tensor(pair.new.ids[first:])
        torch.nn.functional.cross_entropy(logits[first - 1 : -1], labels).backward()
    for name, sums in scores.abs_new.items():
        wanted = [float(tiny.gradient(model, layer, name).abs().sum()) for layer in range(5)]
        np.testing.assert_allclose(sums[0], wanted, rtol=1e-10)


@pytest.mark.usefixtures("keep_double")
@pytest.mark.parametrize("family", ["qwen2_moe", "gpt_oss"])
def test_every_implementation_of_experts_gives_the_same(family):
    model, scores = tiny.model(family), {}
    ids = torch.randint(0, 300, (2, 9))
    for implementation in ("eager", "batched_mm"):
        model.hf.set_experts_implementation(implementation)
        with model.frozen():
            plain = model.hf(ids, use_cache=False).logits
            with model.taps(lambda tap: None):
                tapped = model.hf(ids, use_cache=False).logits
                tapped.sum().backward()
        torch.testing.assert_close(tapped, plain, rtol=1e-12, atol=1e-12)
        scores[implementation] = lga_fast.score_layers(model, REQUESTS).per_request()
        assert model.hf.config._experts_implementation == implementation
    assert error(scores["batched_mm"], scores["eager"]) < 1e-10
    assert not [name for name in ALL_EXPERTS_FUNCTIONS if name.startswith("lga_fast")]


@pytest.mark.usefixtures("keep_double")
def test_scores_of_experts():
    """They add up to the layer's, and an expert that no token of a request went to has none."""
    model = tiny.model("mixtral", num_experts_per_tok=1)
    scores = lga_fast.score_layers(model, REQUESTS, old="ground_truth", abs_new=True)
    assert list(scores.per_expert) == ["gate.weight", "up.weight", "down.weight"]
    for name, per_expert in scores.per_expert.items():
        assert per_expert.shape == (5, 5, 4)
        np.testing.assert_allclose(per_expert.sum(2), scores.dot[name], rtol=1e-12)
    routers = [model.part(i, "mlp").gate for i in range(5)]
    pairs, _ = build_pairs(model, REQUESTS, ScoringOptions("ground_truth"))
    for i, pair in enumerate(pairs):
        used: list[set[int]] = []
        with model.frozen(), torch.no_grad():
            for row in (pair.old, pair.new):
                chosen = _chosen(model, routers, row.ids[:-1])
                used = [a & b for a, b in zip(used or chosen, chosen, strict=True)]
        for layer, experts in enumerate(used):
            used = set(np.flatnonzero(scores.per_expert["up.weight"][i, layer]).tolist())
            # In the last layer no gradient reaches the tokens that predict no label.
            assert used == experts if layer < 4 else used <= experts
    dense = lga_fast.score_layers(tiny.model("llama"), REQUESTS)
    assert dense.per_expert == {}


def _chosen(model, routers, ids) -> list[set[int]]:
    """The experts that each layer's router sends these tokens to."""
    routed: dict[int, set[int]] = {}
    handles = [
        router.register_forward_hook(
            lambda m, a, out, layer=layer: routed.update({layer: set(out[2].flatten().tolist())})
        )
        for layer, router in enumerate(routers)
    ]
    model.hf(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return [routed[layer] for layer in range(len(routers))]


def test_rows_of_experts():
    """Two experts, three tokens: 0 went to both, 1 to the second, 2 to the first."""
    routing = Routing(2, 3, torch.tensor([0, 2, 3, 4]))
    rows = routing.rows(torch.tensor([[0, 2], [2, 1], [1, 0]]))
    assert rows.tolist() == [[0, 1], [1, 1], [1, 0], [2, 2], [4, 0], [3, 0]]


def test_same_bits_twice_and_the_model_comes_back():
    model = tiny.model("gpt_oss", torch.float32)
    before = {k: v.clone() for k, v in model.hf.state_dict().items()}
    fingerprint = model.fingerprint()
    first, second = (lga_fast.score_layers(model, REQUESTS) for _ in range(2))
    assert all(np.array_equal(first.dot[n], second.dot[n]) for n in first.dot)
    assert all(torch.equal(before[k], v) for k, v in model.hf.state_dict().items())
    assert model.fingerprint() == fingerprint and model.hf.training


@pytest.mark.parametrize("selector", ["lga", "salem", "cma"])
def test_layers_are_selected(selector):
    model = tiny.model("gpt_oss", torch.float32)
    assert 0 <= int(lga_fast.select_layer(model, [FACT, REQUESTS[0]], selector)) < 5


def test_experts_are_not_edited_but_ordinary_layers_are():
    model = tiny.model("qwen3_moe", torch.float32)
    message = "layer 1 .* has no 'down' matrix of its own: its MLP is 4 experts fused in"
    for editor in ("rome", "r_rome", "memit"):
        with pytest.raises(EditError, match=message):
            lga_fast.edit(model, [FACT], editor, layer=1)
    edit = lga_fast.edit(model, [FACT], "rome", layer=2, steps=1)
    with model.edited(edit):
        pass
    with pytest.raises(EditError, match=r"such as \(none: experts are fused\)"):
        tiny.model("mixtral", torch.float32).apply(edit, force=True)


def test_experts_of_another_make_are_refused():
    model = tiny.model("mixtral")
    block = model.hf.model.layers[2]
    block.mlp.experts = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with pytest.raises(UnsupportedModel, match=r"layer 2: expected experts with .* a ModuleList"):
        EditableModel(model.hf, model.tokenizer, "x")
    with pytest.raises(UnsupportedModel, match="load the model dequantised with transformers"):
        Experts(torch.nn.Linear(2, 2), "x")
