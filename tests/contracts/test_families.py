"""Every family file must describe its models truly: taps give each matrix's gradient."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from lga_fast import registry, score_layers
from lga_fast.forward.decoding import greedy
from lga_fast.models import Tap
from lga_fast.models.block_calls import mixes, parts_of, record_calls
from lga_fast.models.module_lookup import left_out
from lga_fast.records import EditRequest
from lga_fast.scoring import batch_layout
from lga_fast.scoring.pairs import build_pairs

EDITS = [
    EditRequest("a", "The capital of France is", "Rome", target_old="Paris and more of it"),
    EditRequest("b", "In which city does the tower stand? It stands in", "New York"),
    EditRequest("c", "Q: Who wrote the long book? A:", "Danielle Darrieux and Ann Lee"),
]

FAMILIES = registry.names("lga_fast.models.families") + tiny.VARIANTS


@pytest.fixture(params=FAMILIES)
def model(request):
    return tiny.model(request.param)


def test_found_by_model_type(model):
    assert model.hf.config.model_type == model.family_name and not model.family_guess
    assert model.layers == 5
    assert model.shape(0, "down") == (32, 48)


def test_taps_give_weight_gradients(model):
    """dᵀa == weight.grad, Σd == bias.grad, for every matrix; last layer first."""
    ids = torch.randint(0, 300, (2, 9))
    with model.frozen():
        model.hf.requires_grad_(True)
        taps: list[Tap] = []
        with model.taps(taps.append):
            logits = model.hf(input_ids=ids, use_cache=False).logits
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    assert [t.layer for t in taps] == sorted((t.layer for t in taps), reverse=True)
    assert len(taps) == len({(t.layer, t.matrix) for t in taps})
    names = model.parameter_names()
    seen = dict.fromkeys((layer, name) for layer in range(5) for name in names)
    for tap in taps:
        row = torch.tensor([[0, 18]])
        rows = tap.routing.rows(row).tolist() if tap.routing else row.tolist()
        a, d = ([x[start : start + n] for start, n in rows] for x in (tap.a, tap.d))
        for part, gradient in (
            ("weight", torch.stack([y.T @ x for x, y in zip(a, d, strict=True)])),
            ("bias", torch.stack([y.sum(0) for y in d])),
        ):
            name = f"{tap.matrix}.{part}"
            if name in names:
                wanted = tiny.gradient(model, tap.layer, name)
                gradient = gradient if tap.routing else gradient[0]
                torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-15)
                assert wanted.numel() == model.size(tap.layer, name)
                seen.pop((tap.layer, name))
    assert all(not tiny.gradient(model, *place).any() for place in seen)


def test_every_weight_of_a_block_is_accounted_for(model):
    """It mixes tokens, is a matrix, an expert's or a router's, or the family names it."""
    for layer in range(5):
        assert not left_out(model.part(layer, "block"), model.family)
    with torch.no_grad():
        calls = record_calls(model.hf, model.family.blocks, range(5))
    for layer in range(5):
        where = f"{model.family.blocks}.{layer}."
        for part in parts_of(model.part(layer, "block")):
            of_part = [call for call in calls if call.path == f"{where}{part}"]
            assert len(of_part) == 1 or part in model.family.others
            if model.restarts:  # else attention may read the keys of another layer alone
                assert mixes(of_part[0]) == (part in model.family.mixers), part


def test_logits_at_equal_the_models_own(model):
    ids = torch.randint(0, 300, (3, 9))
    rows, tokens = torch.tensor([0, 2, 2]), torch.tensor([8, 0, 5])
    with torch.no_grad(), model.frozen():
        logits, _ = model.logits_at(ids, rows, tokens, use_cache=False)
        whole = model.hf(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(logits, whole[rows, tokens], rtol=1e-12, atol=1e-12)


def test_greedy_batch_equals_growing_each_row_without_cache(model):
    prompts = [[5, 6, 7], list(range(20, 33)), [8]]
    lengths = [4, 2, 5]
    answers = greedy(model, prompts, lengths)
    with torch.no_grad(), model.frozen():
        for prompt, length, answer in zip(prompts, lengths, answers, strict=True):
            ids = list(prompt)
            for _ in range(length):
                logits = model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
                token = int(logits.argmax())
                if token in model.end_ids():
                    break
                ids.append(token)
            assert answer == ids[len(prompt) :]


@pytest.mark.usefixtures("keep_double")
@pytest.mark.parametrize(
    ("family", "attention"),
    [(family, "eager") for family in FAMILIES] + [(f, "sdpa") for f in ("gpt2", "gemma3", "opt")],
)
def test_packed_rows_score_as_separate_rows(family, attention, monkeypatch):
    """Two answers behind one prompt, the second blind to the first, equal two rows."""
    model = tiny.model(family, attention=attention, sliding_window=64, window_size=64)
    packs = [batch_layout.can_pack(model, pair) for pair in build_pairs(model, EDITS)[0]]
    assert all(packs) == model.takes_masks
    for loss_scope in ("target", "full"):
        scores = {}
        for packed in (True, False):
            monkeypatch.setattr(batch_layout, "packing_pays", lambda pair, packed=packed: packed)
            scores[packed] = score_layers(model, EDITS, loss_scope=loss_scope)
        for name, dot in scores[False].dot.items():
            np.testing.assert_allclose(scores[True].dot[name], dot, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(scores[True].loss_new, scores[False].loss_new, rtol=1e-12)


def test_paths_that_editors_use_exist(model):
    for layer in range(5):
        assert model.part(layer, "attention") is not None
        assert layer not in model.whole_mlps or model.part(layer, "mlp") is not None
    assert model.hf.get_submodule(model.family.final_norm) is not None
    assert model.family.edited in model.family.matrices


def test_a_long_prompt_beside_a_long_answer_stays_within_the_models_places(model):
    prompts = [[5] * 124, [7, 8, 9]]
    short, long = greedy(model, prompts, [4, 40])
    assert short == greedy(model, prompts[:1], [4])[0]
    assert long == greedy(model, prompts[1:], [40])[0]
