"""The scoring pass against explicit per-sample autograd."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lga_fast import score_layers
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import Pair, build_pairs

pytestmark = pytest.mark.usefixtures("keep_double")

REQUESTS = tiny.REQUESTS
FAMILIES = ["gpt2", "llama", "gemma3", "qwen3", "phi3", "opt"]


def autograd(model: EditableModel, pairs: list[Pair], full=False, mean=True) -> dict[str, tuple]:
    """The three [request layer] arrays per parameter, from whole gradients of one row at a time."""
    names = model.parameter_names()
    found = {name: np.zeros((3, len(pairs), model.layers)) for name in names}
    with model.frozen():
        model.hf.requires_grad_(True)
        for i, pair in enumerate(pairs):
            sides = []
            for row in (pair.old, pair.new):
                model.hf.zero_grad(set_to_none=True)
                logits = model.hf(torch.tensor([row.ids]), use_cache=False).logits[0]
                first = 1 if full else row.start
                labels = torch.tensor(row.ids[first:])
                picked = logits.log_softmax(-1)[first - 1 : -1].gather(1, labels[:, None])
                (-picked.mean() if mean else -picked.sum()).backward()
                sides.append(
                    {
                        (name, layer): tiny.gradient(model, layer, name).double()
                        for name in names
                        for layer in range(model.layers)
                    }
                )
            for name, layer in sides[0]:
                old, new = sides[0][name, layer], sides[1][name, layer]
                products = ((old * new).sum(), old.square().sum(), new.square().sum())
                found[name][:, i, layer] = [float(p) for p in products]
    model.hf.zero_grad(set_to_none=True)
    return {name: tuple(values) for name, values in found.items()}


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest over layers of the error's norm over facts against the norm over facts."""
    return float((np.linalg.norm(got - want, axis=0) / np.linalg.norm(want, axis=0)).max())


def compare(model: EditableModel, tolerance: float, **options) -> None:
    scores = score_layers(model, REQUESTS, **options)
    pairs, _ = build_pairs(model, REQUESTS, ScoringOptions(options.get("old", "model")))
    full, mean = options.get("loss_scope") == "full", options.get("reduction") != "sum"
    wanted = autograd(model, pairs, full, mean)
    assert list(scores.dot) == list(wanted)
    for name, parts in wanted.items():
        for got, want in zip(
            (scores.dot[name], scores.norm2_old[name], scores.norm2_new[name]), parts, strict=True
        ):
            assert error(got, want) <= tolerance, name


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_autograd_in_float64(family):
    compare(tiny.model(family), 1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_autograd_in_float32(family):
    compare(tiny.model(family, torch.float32), 1e-5)


@pytest.mark.parametrize("options", [{"loss_scope": "full"}, {"reduction": "sum"}])
@pytest.mark.parametrize("old", ["model", "ground_truth"])
def test_options_equal_autograd(options, old):
    compare(tiny.model("llama", tokenizer=tiny.metaspace()), 1e-10, old=old, **options)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mistral", "gpt_neo"])
def test_batched_rows_equal_rows_alone(family):
    """Mixed lengths, padding and batch mates change nothing but rounding."""
    model = tiny.model(family)
    together = score_layers(model, REQUESTS)
    for batch_tokens in (1, 60):
        apart = score_layers(model, REQUESTS, batch_tokens=batch_tokens)
        for name, dot in together.dot.items():
            assert error(apart.dot[name], dot) < 1e-11
    for i, request in enumerate(REQUESTS):
        alone = score_layers(model, [request])
        for name, dot in together.dot.items():
            assert error(alone.dot[name], dot[i : i + 1]) < 1e-11


def test_permuting_requests_permutes_scores():
    model, order = tiny.model("qwen2"), [3, 0, 4, 1, 2]
    straight = score_layers(model, REQUESTS)
    mixed = score_layers(model, [REQUESTS[i] for i in order])
    assert mixed.case_ids == tuple(str(i) for i in order)
    assert error(mixed.per_request(), straight.per_request()[order]) < 1e-11


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_function_preserving_rescaling(family):
    """Taking up × α and down / α scales their φ by 1/α² and α², and nothing else."""
    model, alpha, layer = tiny.model(family), 3.0, 2
    before = score_layers(model, REQUESTS)
    with torch.no_grad():
        model.matrix(layer, "up").weight.mul_(alpha)
        model.matrix(layer, "down").weight.div_(alpha)
    after = score_layers(model, REQUESTS)
    for name, dot in before.dot.items():
        factor = np.ones(model.layers)
        factor[layer] = {"up.weight": alpha**-2, "down.weight": alpha**2}.get(name, 1.0)
        assert error(after.dot[name], dot * factor) < 1e-10, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_close_and_stays_low(dtype):
    wide = tiny.model("llama", torch.float32)
    low = tiny.model("llama", torch.float32)
    low.hf.to(dtype)
    old = replace  # old answers must agree: take them from the data
    requests = [old(r, target_old=r.target_old or "Rome") for r in REQUESTS]
    want = score_layers(wide, requests, old="ground_truth")
    got = score_layers(low, requests, old="ground_truth")
    assert got.provenance["dtype"] == str(dtype).removeprefix("torch.")
    bound = (
        0.25 if dtype == torch.bfloat16 else 0.05
    )  # a few roundings of 2⁻⁸ (2⁻¹¹), squared terms
    assert error(got.per_request(), want.per_request()) < bound


class _Shapes(TorchDispatchMode):
    """Collects the shapes of all tensors that ops return."""

    def __init__(self):
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            # Views of weights are not new tensors.
            if isinstance(tensor, torch.Tensor) and (
                tensor.untyped_storage().data_ptr() not in known
            ):
                self.seen.add(tuple(tensor.shape))
        return out


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_nothing_of_a_weights_size_is_made(family):
    model = tiny.model(family, torch.float32)
    weights = {tuple(m.weight.shape) for m in model._matrices.values()}
    weights |= {shape[::-1] for shape in weights}
    with _Shapes() as shapes:
        score_layers(model, REQUESTS)
    assert not shapes.seen & weights
    with _Shapes() as shapes, model.frozen():  # the check can fail: autograd on weights trips it
        model.hf.requires_grad_(True)
        model.hf(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert shapes.seen & weights
    model.hf.zero_grad(set_to_none=True)


def test_the_model_comes_back():
    model = tiny.model("gpt2", torch.float32)
    model.hf.train()
    model.hf.transformer.h[1].eval()
    frozen = model.hf.transformer.h[0].mlp.c_fc.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in model.hf.state_dict().items()}
    side, rng = model.tokenizer.padding_side, torch.get_rng_state()
    for edits in (REQUESTS, [replace(REQUESTS[0], prompt="word " * 200)]):
        try:
            score_layers(model, edits)
        except ScoringError as error_:
            assert "the model takes at most 128" in str(error_)
        assert all(torch.equal(before[k], v) for k, v in model.hf.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.hf.modules())
        assert model.hf.training and not model.hf.transformer.h[1].training
        assert not frozen.requires_grad
        assert sum(not p.requires_grad for p in model.hf.parameters()) == 1
        assert all(p.grad is None for p in model.hf.parameters())
        assert model.tokenizer.padding_side == side and torch.equal(torch.get_rng_state(), rng)


def test_same_bits_twice():
    model = tiny.model("gemma3", torch.float32)
    first, second = score_layers(model, REQUESTS), score_layers(model, REQUESTS)
    assert all(np.array_equal(first.dot[n], second.dot[n]) for n in first.dot)


def test_an_answer_that_ends_at_once_is_dropped_and_counted():
    model = tiny.model("gpt2")
    pairs, _ = build_pairs(model, REQUESTS)
    model.tokenizer = type("T", (), {"eos_token_id": pairs[1].old.target[0]})()
    model.tokenizer.__class__.__call__ = lambda self, *a, **k: tiny.byte_level()(*a, **k)
    model.tokenizer.is_fast = True
    scores = score_layers(model, REQUESTS)
    assert "1" in [d.case_id for d in scores.dropped]
    assert "1" not in scores.case_ids
    assert len(scores.case_ids) + len(scores.dropped) == len(REQUESTS)


def test_known_facts_are_marked():
    model = tiny.model("gpt2")
    pairs, _ = build_pairs(model, REQUESTS)
    answer = model.tokenizer.decode(pairs[0].old.target)
    request = EditRequest("k", REQUESTS[0].prompt, "English", target_old="English")
    scores = score_layers(model, [request], old="ground_truth")
    assert scores.known.tolist() == [True] and answer
    assert (scores.per_request() > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_scope": "answer"}, "loss_scope: expected one of 'target', 'full', got 'answer'"),
        ({"reduction": "max"}, "reduction: expected one of 'mean', 'sum', got 'max'"),
        ({"old": "guess"}, "old: expected one of 'model', 'ground_truth', got 'guess'"),
        ({"batch_tokens": 0}, "batch_tokens: expected a whole number of at least 1, got 0"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ScoringError, match=message):
        score_layers(tiny.model("gpt2"), REQUESTS, **options)


def test_nothing_to_score_is_an_error():
    with pytest.raises(ScoringError, match="nothing to score: there are no requests"):
        score_layers(tiny.model("gpt2"), [])
