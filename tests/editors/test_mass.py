"""MEMIT and its kin: what they share, over one layer and several, alone and together."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
import tiny
import torch
from mass import CONTEXTS, EDITORS, FAMILIES, GENTLE, LAYER, OPTIONS, REQUESTS, editor, solved

import lga_fast
from lga_fast.editors._value_problem import answer_row
from lga_fast.forward.decoding import greedy
from lga_fast.records import EditRequest
from tests.editors.value_cases import read_keys

pytestmark = pytest.mark.usefixtures("keep_double")

WEIGHTS = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
EACH = list(zip(EDITORS, FAMILIES, strict=True))  # every editor, every family


@pytest.mark.parametrize(("name", "family"), EACH)
def test_keys_are_half_the_bare_prompts_and_the_residual_is_delta(name, family):
    it = solved(name, family)
    for request, key in zip(REQUESTS, it.keys, strict=True):
        rows = [answer_row(it.model, context, request) for context in CONTEXTS]
        seen, _ = read_keys(it.model, LAYER, [row.ids[: at + 1] for row, at in rows])
        torch.testing.assert_close(key, WEIGHTS @ seen, rtol=1e-9, atol=1e-12)
    part = it.ready.update(LAYER, it.keys, it.residual)
    torch.testing.assert_close(it.updates[LAYER].left, part.left)


@contextmanager
def carrying(model, layer, change):
    """The weight of a layer with `change` added, by hand."""
    weight = model.matrix(layer, "down").weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight += change.T if model.family.orientation == "in_out" else change
    try:
        yield
    finally:
        weight.data = before


def read(model, layer, request, context=""):
    """Key of a layer, and outputs of a block and its parts, at the subject's last token."""
    row, at = answer_row(model, context, request)
    found, hooks = {}, []

    def hook(name):
        def see(module, args, output):
            found[name] = (output[0] if isinstance(output, tuple) else output)[0, at]
            if name == "down":
                found["key"] = args[0][0, at]

        return see

    parts = {name: model.part(layer, name) for name in ("attention", "mlp", "block")}
    for name, module in (*parts.items(), ("down", model.matrix(layer, "down"))):
        hooks.append(module.register_forward_hook(hook(name)))
    with torch.no_grad(), model.frozen():
        model.hf(torch.tensor([row.ids[: at + 1]]), use_cache=False)
    for handle in hooks:
        handle.remove()
    return found


@pytest.mark.parametrize("name", EDITORS)
@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_each_layer_takes_its_part_of_what_the_ones_before_left(name, family):
    """Keys and residuals read one row at a time on weights that are changed by hand."""
    layers = (0, 1, 3)
    it = solved(name, family, layers=layers)
    site = it.ready.sites[0]
    assert site == ("mlp" if family == "gemma3" or name == "pmet" else "block")
    before = [read(it.model, 3, request)[site] for request in REQUESTS]
    wanted = torch.stack(before) + it.residual
    left_over = []
    with ExitStack() as carried:
        for layer, left in zip(layers, (3, 2, 1), strict=True):
            keys = torch.stack(
                [
                    WEIGHTS @ torch.stack([read(it.model, layer, r, c)["key"] for c in CONTEXTS])
                    for r in REQUESTS
                ]
            )
            now = torch.stack([read(it.model, 3, request)[site] for request in REQUESTS])
            left_over.append(float((wanted - now).norm()))
            part = left**-0.5 if name == "pmet" else 1 / left
            expected = it.ready.update(layer, keys, part * (wanted - now))
            got = it.updates[layer]
            change, wanted_change = (x.left @ x.right.T for x in (got, expected))
            assert (change - wanted_change).norm() < 1e-5 * wanted_change.norm()
            carried.enter_context(carrying(it.model, layer, change))
    assert left_over[2] != pytest.approx(left_over[1], rel=1e-5) != left_over[0]


@pytest.mark.parametrize("family", tiny.one_stream())
def test_families_say_truly_whether_a_norm_follows_the_mlp(family):
    """A change of the MLP's output moves the stream by itself, unless a norm lies between."""
    model = tiny.model(family)
    delta = torch.randn(32, dtype=torch.float64)
    plain = read(model, 2, REQUESTS[0])
    handle = model.part(2, "mlp").register_forward_hook(lambda m, args, output: output + delta)
    moved = read(model, 2, REQUESTS[0])["block"] - plain["block"]
    handle.remove()
    assert torch.allclose(moved, delta, rtol=1e-9) != model.family.post_mlp_norm


@pytest.mark.parametrize("name", EDITORS)
@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
@pytest.mark.parametrize("layers", [None, (1, 2)])
def test_the_model_carries_the_edit_and_comes_back(name, family, layers):
    model = tiny.model(family, torch.float32)
    state = {k: v.clone() for k, v in model.hf.state_dict().items()}
    options = GENTLE | OPTIONS[name] | {"contexts": CONTEXTS, "layer": LAYER}
    change = lga_fast.edit(model, REQUESTS, name, layers=layers, **options)
    assert all(torch.equal(state[k], v) for k, v in model.hf.state_dict().items())
    assert model.hf.training and all(p.requires_grad for p in model.hf.parameters())
    assert not any(m._forward_hooks for m in model.hf.modules())
    each = layers or (LAYER,)
    assert {d.rank for d in change.deltas.values()} == {3}
    assert list(change.deltas) == [model.weight_name(layer, "down") for layer in each]
    made = change.provenance
    assert (made["editor"], made["layer"], made["layers"]) == (name, LAYER, list(each))
    assert made["contexts"] == list(CONTEXTS) and len(made["requests"]) == 3
    assert [len(losses) for losses in made["losses"]] == [4, 4, 4]
    assert made["site"] == ("mlp" if family == "gemma3" or name == "pmet" else "block")
    assert ("site_why" in made) == (family == "gemma3" and name != "pmet")
    for report in (made["second_moment"], made["written"]):
        assert list(report) == [str(layer) for layer in each]
    assert all(0 < share < 1 for share in made["written"][str(LAYER)])
    moment = made["second_moment"][str(LAYER)]
    assert (moment["corpus"], moment["tokens"]) == ("atlas/text.txt", 480)
    before = read(model, LAYER, REQUESTS[0])
    with model.edited(change):
        after = read(model, LAYER, REQUESTS[0])
    delta = change.deltas[model.weight_name(LAYER, "down")]
    if not layers:
        intended = delta.left @ (delta.right.T @ before["key"])
        torch.testing.assert_close(after["down"] - before["down"], intended, rtol=1e-3, atol=1e-5)
    assert not torch.equal(after["down"], before["down"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("memit", {"mom2_weight": 10}),
        ("emmet", {"mom2_weight": 10, "emmet_lambda": 0.01}),
        ("pmet", {"mom2_weight": 10, "clamp": 16}),
        ("alphaedit", {"l2": 0.01, "clamp": 4}),
    ],
)
def test_a_real_model_gives_the_new_answers_and_then_the_old_ones(name, options):
    model = lga_fast.load("atlas-llama", device="cpu")
    requests = lga_fast.load_edits("atlas")[50:52]
    ids = [model.tokenizer(request.prompt)["input_ids"] for request in requests]

    def answers():
        return [model.tokenizer.decode(answer).strip() for answer in greedy(model, ids, [8, 8])]

    before = answers()
    options |= {"lr": 0.5, "weight_decay": 1e-3}
    change = lga_fast.edit(model, requests, name, layer=1, **options)
    with model.edited(change):
        for answer, request in zip(answers(), requests, strict=True):
            assert answer.startswith(request.target_new)
    assert answers() == before


@pytest.mark.parametrize(("name", "family"), EACH)
def test_edits_found_together_are_the_ones_found_alone(name, family):
    model = tiny.model(family)
    subjects = ["Paris", "the long book", "Ann Lee", "France", "Vienna", "Q", "New York", "Berlin"]
    answers = ["Rome", "New York", "a", "nobody knows", "French", "English", "It", "Italy"]
    requests = [
        EditRequest(str(i), f"The {s} stands{' in' * (i % 2)}", a, s, (4, 4 + len(s)))
        for i, (s, a) in enumerate(zip(subjects, answers, strict=True))
    ]
    layers = (1, LAYER) if family == "gpt2" else None
    ready = editor(name, layers=layers).prepare(model, LAYER)
    values = ready._values(requests)
    together = ready.solve_independent(requests)
    for request, value, change in zip(requests, values, together, strict=True):
        (alone,) = ready._values([request])
        one = ready._updates([request], [alone])
        for layer, update in ready._updates([request], [value]).items():
            for side in ("left", "right"):
                got, wanted = getattr(update, side), getattr(one[layer], side)
                torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-9)
                saved = getattr(change.deltas[model.weight_name(layer, "down")], side)
                torch.testing.assert_close(saved, wanted.type(torch.float32), rtol=1e-5, atol=1e-7)
        assert change.provenance["requests"][0]["case_id"] == request.case_id
