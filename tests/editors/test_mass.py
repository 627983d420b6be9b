"""MEMIT and its kin: what they promise holds, over one layer and several, alone and together."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
import tiny
import torch

import lga_fast
from lga_fast import registry
from lga_fast.editors import _keys, _moments
from lga_fast.errors import EditError
from lga_fast.records import EditRequest

pytestmark = pytest.mark.usefixtures("keep_double")

REQUESTS = [
    EditRequest("a", "The tower of Paris stands in", "New York", "Paris", (13, 18)),
    EditRequest("b", "The capital of France is", "Rome", "France", (15, 21)),
    EditRequest("c", "Who wrote the long book", "Ann Lee", "the long book", (10, 23)),
]
CONTEXTS = ("", "The book. ", "Nobody knows that. ")
WEIGHTS = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
FAMILIES = ["gpt2", "llama", "gemma3", "qwen3"]
LAYER = 2
THRESHOLD = 2e-3  # about half of the directions are below it
GENTLE = {"steps": 4, "lr": 0.05, "weight_decay": 1e-4}
# Numbers under which these small models' updates are neither all nor nothing.
OPTIONS = {
    "memit": {"mom2_weight": 20.0},
    "emmet": {"mom2_weight": 20.0, "emmet_lambda": 0.5, "update_norm_lambda": 1e-3},
    "pmet": {"mom2_weight": 20.0},
    "alphaedit": {"l2": 1e-2, "nullspace_threshold": THRESHOLD},
}
EDITORS = list(OPTIONS)


def editor(name, **options):
    kind = registry.member("lga_fast.editors", name).Editor
    return kind(**{"contexts": CONTEXTS, **GENTLE, **OPTIONS[name], **options})


def solved(name, family="llama", requests=REQUESTS, **options):
    """A method's updates in float64, and what they were to do."""
    model = tiny.model(family)
    ready = editor(name, **options).ready(model, max(options.get("layers", (LAYER,))))
    values = ready._values(requests)
    updates = ready._updates(requests, values)
    return SimpleNamespace(
        model=model,
        ready=ready,
        updates=updates,
        change=updates[ready.layer].left @ updates[ready.layer].right.T,
        keys=updates[ready.layer].keys,
        residual=torch.stack([value.delta for value in values]),
        second=_moments.moments(model, [ready.layer])[ready.layer].second,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_memit_is_the_ridge_solution(family):
    """ΔW minimises λ tr(ΔW C ΔWᵀ) + ‖ΔW K − R‖²: the gradient is 0, and so is the dense form's."""
    it = solved("memit", family)
    weight = OPTIONS["memit"]["mom2_weight"]
    gap = it.keys @ it.change.T - it.residual
    gradient = gap.T @ it.keys + weight * it.change @ it.second
    assert float(gradient.norm()) < 1e-9 * float((it.residual.T @ it.keys).norm())
    dense = torch.linalg.solve(weight * it.second + it.keys.T @ it.keys, it.keys.T @ it.residual).T
    torch.testing.assert_close(it.change, dense, rtol=1e-7, atol=1e-10)
    assert 0.05 < float(gap.norm() / it.residual.norm()) < 0.95, "neither all nor nothing"
    (first, *_) = it.updates[LAYER].written
    (alone,) = solved("memit", family, REQUESTS[:1]).updates[LAYER].written
    assert first == pytest.approx(alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_emmet_keeps_the_equality_at_the_least_cost(family):
    """λ_E = 0: (W + ΔW) K = W K + R, and ΔW C_w is a combination of the keys (Lagrange)."""
    it = solved("emmet", family, emmet_lambda=0.0)
    torch.testing.assert_close(it.keys @ it.change.T, it.residual, rtol=1e-9, atol=1e-11)
    weighted = it.change @ (20 * it.second + 1e-3 * torch.eye(48).to(it.second))
    keys = torch.linalg.qr(it.keys.T).Q
    torch.testing.assert_close(weighted @ keys @ keys.T, weighted, rtol=1e-7, atol=1e-9)
    assert it.updates[LAYER].written == pytest.approx([1, 1, 1])


def test_emmets_lambda_holds_as_its_policy_says():
    first = REQUESTS[:1]
    for policy, batch, equal in (
        ("always", first, False),
        ("always", REQUESTS, False),
        ("batch_gt_1", first, True),
        ("batch_gt_1", REQUESTS, False),
    ):
        it = solved("emmet", requests=batch, lambda_policy=policy)
        reach = it.keys @ it.change.T
        assert torch.allclose(reach, it.residual, rtol=1e-6) == equal
        if policy == "always" and batch is first:  # shrunk by D / (D + λ_E)
            (share,) = it.updates[LAYER].written
            torch.testing.assert_close(reach, share * it.residual, rtol=1e-9, atol=1e-12)
            weighted = 20 * it.second + 1e-3 * torch.eye(48).to(it.second)
            size = float(it.keys @ torch.linalg.solve(weighted, it.keys.T))
            assert share == pytest.approx(size / (size + 0.5))


def test_requests_that_keys_cannot_tell_apart_share_their_changes():
    model = tiny.model("gpt2")
    twice = [REQUESTS[0], EditRequest("d", REQUESTS[0].prompt, "Rome", "Paris", (13, 18))]
    ready = editor("emmet", emmet_lambda=0.0).ready(model, LAYER)
    values = ready._values(twice)
    (update,) = ready._updates(twice, values).values()
    mean = (values[0].delta + values[1].delta) / 2
    reach = update.keys @ (update.left @ update.right.T).T
    torch.testing.assert_close(reach, torch.stack([mean, mean]), rtol=1e-6, atol=1e-9)
    (note,) = ready._edit(twice, values, {LAYER: update}).provenance["notes"]
    assert note.startswith("layer 2: the keys of the 2 requests are linearly dependent")


@pytest.mark.parametrize("family", FAMILIES)
def test_alphaedit_leaves_the_kept_directions_alone(family):
    """ΔW annihilates them, and is (P (K Kᵀ + M) + L2·I)⁻¹ P K Rᵀ; M are earlier edits' keys."""
    it = solved("alphaedit", family)
    sizes, vectors = torch.linalg.eigh(it.second)
    kept, free = vectors[:, sizes >= THRESHOLD], vectors[:, sizes < THRESHOLD]
    assert min(kept.shape[1], free.shape[1]) > 10
    assert float((it.change @ kept).norm()) < 1e-12 * float(it.change.norm())
    projection = torch.from_numpy(free.numpy() @ free.numpy().T)

    def dense(keys, earlier, residual):
        gram = keys.T @ keys + earlier.T @ earlier
        system = projection @ gram + 1e-2 * torch.eye(48).to(gram)
        return torch.linalg.solve(system, projection @ keys.T @ residual).T

    none = it.keys[:0]
    torch.testing.assert_close(it.change, dense(it.keys, none, it.residual), rtol=1e-7, atol=1e-9)
    ready = editor("alphaedit").ready(it.model, LAYER)
    ready.all(REQUESTS[:1])
    ready.each(REQUESTS[1:])  # independent edits leave nothing behind
    ready.all(REQUESTS[1:2])
    update = ready.update(LAYER, it.keys[2:], it.residual[2:])
    wanted = dense(it.keys[2:], it.keys[:2], it.residual[2:])
    torch.testing.assert_close(update.left @ update.right.T, wanted, rtol=1e-6, atol=1e-9)
    alone = dense(it.keys[2:], none, it.residual[2:])
    spared = [float((it.keys[:2] @ change.T).norm()) for change in (wanted, alone)]
    assert spared[0] < 0.9 * spared[1], "what earlier edits wrote moves less"


def test_alphaedit_without_free_or_without_kept_directions():
    model = tiny.model("gpt2", torch.float32)
    options = {"layer": LAYER, "contexts": CONTEXTS, **GENTLE}
    with pytest.raises(
        EditError,
        match=r"layer 2: none of the 48 directions .* below nullspace_threshold 1e-09, so none is "
        r"free to use: the smallest is 3.\d+e-05, the largest 0.6\d+\. Raise nullspace_threshold",
    ):
        lga_fast.edit(model, REQUESTS, "alphaedit", nullspace_threshold=1e-9, **options)
    options |= {"nullspace_threshold": 9, "l2": 1e-3}
    with pytest.warns(UserWarning, match="layer 2: all 48 directions of its keys .* nothing is ke"):
        made = lga_fast.edit(model, REQUESTS, "alphaedit", **options)
    report = made.provenance["second_moment"]["2"]
    assert report["free"] == report["directions"] == 48 and report["corpus"] == "atlas/text.txt"


@pytest.mark.parametrize("name", EDITORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_are_half_the_bare_prompts_and_the_residual_is_delta(name, family):
    it = solved(name, family)
    for request, key in zip(REQUESTS, it.keys, strict=True):
        rows = [_keys.answer_row(it.model, context, request) for context in CONTEXTS]
        seen = [
            _keys.read_keys(it.model, LAYER, _keys.rows_of([(row.ids[: at + 1], at)]))[0][0]
            for row, at in rows
        ]
        torch.testing.assert_close(key, WEIGHTS @ torch.stack(seen), rtol=1e-9, atol=1e-12)
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
    row, at = _keys.answer_row(model, context, request)
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
    layers = (1, 2, 4)
    it = solved(name, family, layers=layers)
    site = it.ready.sites[0]
    assert site == ("mlp" if family == "gemma3" or name == "pmet" else "block")
    before = [read(it.model, 4, request)[site] for request in REQUESTS]
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
            now = torch.stack([read(it.model, 4, request)[site] for request in REQUESTS])
            left_over.append(float((wanted - now).norm()))
            part = left**-0.5 if name == "pmet" else 1 / left
            expected = it.ready.update(layer, keys, part * (wanted - now))
            got = it.updates[layer]
            change = got.left @ got.right.T
            torch.testing.assert_close(
                change, expected.left @ expected.right.T, rtol=1e-5, atol=1e-8
            )
            carried.enter_context(carrying(it.model, layer, change))
    assert left_over[2] != pytest.approx(left_over[1], rel=1e-5) != left_over[0]


@pytest.mark.parametrize("family", registry.names("lga_fast.models.families"))
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
@pytest.mark.parametrize("family", FAMILIES)
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
        return [model.tokenizer.decode(answer).strip() for answer in model.greedy(ids, [8, 8])]

    before = answers()
    options |= {"lr": 0.5, "weight_decay": 1e-3}
    change = lga_fast.edit(model, requests, name, layer=1, **options)
    with model.edited(change):
        for answer, request in zip(answers(), requests, strict=True):
            assert answer.startswith(request.target_new)
    assert answers() == before


@pytest.mark.parametrize("name", EDITORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_edits_found_together_are_the_ones_found_alone(name, family):
    model = tiny.model(family)
    subjects = ["Paris", "the long book", "Ann Lee", "France", "Vienna", "Q", "New York", "Berlin"]
    answers = ["Rome", "New York", "a", "nobody knows", "French", "English", "It", "Italy"]
    requests = [
        EditRequest(str(i), f"The {s} stands{' in' * (i % 2)}", a, s, (4, 4 + len(s)))
        for i, (s, a) in enumerate(zip(subjects, answers, strict=True))
    ]
    layers = (1, LAYER) if family == "gpt2" else None
    ready = editor(name, layers=layers).ready(model, LAYER)
    values = ready._values(requests)
    together = ready.each(requests)
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


def test_what_there_is_to_know_is_said():
    model = tiny.model("gpt2", torch.float32)
    with pytest.warns(UserWarning) as caught:
        change = lga_fast.edit(
            model, REQUESTS[:1], "memit", layer=4, contexts=CONTEXTS, steps=3, mom2_weight=1e4
        )
    assert [str(w.message) for w in caught] == change.provenance["notes"]
    unmoved, little = change.provenance["notes"]
    assert unmoved.startswith("request 'a': its loss did not fall (")
    assert (
        "a change at layer 4 does not reach the answer, or lr or weight_decay is too large"
        in unmoved
    )
    share = change.provenance["written"]["4"][0]
    assert share < 0.1
    assert little == (
        f"request 'a': only {share:.1%} of its change is written at layer 4; mom2_weight decides "
        "how much"
    )


def test_layers_must_end_at_the_layer():
    model = tiny.model("gpt2", torch.float32)
    for layers in ((1, 2), (3, 4), (3, 3)):
        with pytest.raises(EditError, match=r"layers \[.*the highest is the layer asked for, 3"):
            lga_fast.edit(model, REQUESTS, "memit", layer=3, layers=layers, contexts=CONTEXTS)
    with pytest.raises(EditError, match="loss_layer 5: tiny-gpt2 has layers 0 to 4"):
        lga_fast.edit(model, REQUESTS, "memit", layer=3, loss_layer=5, contexts=CONTEXTS)


def test_an_update_that_is_not_finite_is_an_error():
    ready = editor("memit").ready(tiny.model("gpt2", torch.float32), LAYER)
    keys, residual = torch.ones(2, 48).double(), torch.ones(2, 32).double()
    for bad in (keys * torch.inf, keys * torch.nan):
        with pytest.raises(EditError, match="layer 2: the update of 2 requests is not finite"):
            ready.update(LAYER, bad, residual)
    with pytest.raises(EditError, match="is not finite"):
        ready.update(LAYER, keys, residual * 1e300)


def test_contexts_are_one_of_ten_tokens_for_each_seed_word():
    model = tiny.model("gpt2", torch.float32)
    ready = editor("memit", contexts=None).ready(model, LAYER)
    assert ready.contexts[0] == "" and len(ready.contexts) == 6
    assert ready.weights.tolist() == pytest.approx([0.5] + [0.1] * 5)
    starts = [text.split()[0] for text in ready.contexts[1:]]
    assert all(text.startswith(word) for text, word in zip(starts, "TTBIY", strict=True))
    assert editor("memit", contexts=("",)).ready(model, LAYER).weights.tolist() == [1.0]
    assert editor("memit", contexts=None, seed=1).ready(model, LAYER).contexts != ready.contexts


def test_a_file_of_easyedit_sets_its_layers():
    model = tiny.model("gpt2", torch.float32)
    config = {"alg_name": "MEMIT", "layers": [1, 3], "v_loss_layer": 4, "mom2_update_weight": "3e0"}
    config |= {
        "v_num_grad_steps": 2,
        "v_lr": "5e-2",
        "v_weight_decay": 0,
        "contexts": list(CONTEXTS),
    }
    made = lga_fast.edit(model, REQUESTS, "memit", config=config).provenance
    assert (made["layers"], made["config"]["mom2_weight"]) == ([1, 3], 3.0)
    assert lga_fast.edit(model, REQUESTS, "memit", config=config, layer=2).provenance["layers"] == [
        2
    ]
