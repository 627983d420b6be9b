"""The optimisation of values: the loss is the paper's, and the fast form gives the plain one's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch

from lga_fast import registry
from lga_fast.editors import _keys, _values
from lga_fast.models.downstream import Downstream, Whole
from lga_fast.records import EditRequest

pytestmark = pytest.mark.usefixtures("keep_double")

REQUEST = EditRequest("a", "The tower of Paris stands in", "New York", "Paris", (13, 18))
REQUESTS = [
    REQUEST,
    EditRequest("b", "The capital of France is", "Rome", "France", (15, 21)),
    EditRequest(
        "c", "Nobody knows Ann Lee who wrote the long book", "English", "Ann Lee", (13, 20)
    ),
]
CONTEXTS = ("", "The book. ", "Nobody knows that. ")
LAYER = 2
HOW = _values.Optimisation(steps=6, weight_decay=1e-3)
# Windows as wide as real ones are, against the rows here.
WIDE: dict[str, Any] = {"gpt_neo": {"window_size": 64}}
for _name in ("gemma2", "gemma3", "gemma3_text", "mistral"):
    WIDE[_name] = {"sliding_window": 64}


def test_the_losses_are_the_papers_one_row_at_a_time():
    """NLL + KL + decay and Adam with the ball, written out row by row in float64."""
    model = tiny.model("llama")
    how = _values.Optimisation(steps=5, weight_decay=0.3, clamp=0.5, kl_factor=0.7)
    (value,) = _values.optimise(model, LAYER, [REQUEST], CONTEXTS, how)
    module = model.matrix(LAYER, "down")
    tokenizer = model.tokenizer
    about = tokenizer("Paris is a")["input_ids"]
    about_at = len(tokenizer("Paris")["input_ids"]) - 1

    def log_p(ids, at, delta):
        def add(m, a, out):
            out = out.clone()
            out[0, at] = out[0, at] + delta
            return out

        handle = module.register_forward_hook(add)
        logits = model.hf(torch.tensor([ids]), use_cache=False).logits[0]
        handle.remove()
        return logits.log_softmax(-1)

    kept = []
    with model.frozen():
        handle = module.register_forward_hook(lambda m, a, out: kept.append(out[0].detach()))
        row, at = _keys.answer_row(model, "", REQUEST)
        model.hf(torch.tensor([row.ids]), use_cache=False)
        handle.remove()
        initial = kept[0][at]
        delta = torch.zeros_like(initial, requires_grad=True)
        adam, losses, first = torch.optim.Adam([delta], lr=how.lr), [], None
        for step in range(how.steps):
            nll = 0.0
            for context in CONTEXTS:
                row, at = _keys.answer_row(model, context, REQUEST)
                found = log_p(row.ids, at, delta)[row.start - 1 : -1]
                nll = nll - found.gather(1, torch.tensor(row.target)[:, None]).mean()
            now = log_p(about, about_at, delta)[about_at]
            first = now.detach() if first is None else first
            kl = torch.nn.functional.kl_div(first, now, log_target=True, reduction="sum")
            loss = nll / len(CONTEXTS) + how.kl_factor * kl
            loss = loss + how.weight_decay * delta.norm() / initial.norm() ** 2
            losses.append(float(loss.detach()))
            if step == how.steps - 1:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                if delta.norm() > how.clamp * initial.norm():
                    delta.mul_(how.clamp * initial.norm() / delta.norm())
    assert value.losses == pytest.approx(losses, rel=1e-9)
    torch.testing.assert_close(value.delta, delta.detach(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(value.initial, initial, rtol=1e-10, atol=1e-12)
    assert float(value.delta.norm()) == pytest.approx(0.5 * float(initial.norm())), "on the ball"


@pytest.mark.parametrize("family", registry.names("lga_fast.models.families"))
@pytest.mark.parametrize(
    ("layer", "site"), [(0, "mlp"), (2, "mlp"), (2, "block"), (1, "attention")]
)
def test_running_what_can_change_gives_what_running_everything_gives(family, layer, site):
    model = tiny.model(family, **WIDE.get(family, {}))
    state = {k: v.clone() for k, v in model.hf.state_dict().items()}
    plain = _values.optimise(
        model, layer, REQUESTS, CONTEXTS, HOW, site=site, runner=Whole, show_progress=False
    )
    low, high, _ = sorted(value.losses[2] for value in plain)
    how = replace(HOW, stop_loss=(low + high) / 2)  # some stop early, not all
    both = [
        _values.optimise(model, layer, REQUESTS, CONTEXTS, how, site=site, runner=runner)
        for runner in (Whole, Downstream)
    ]
    assert len({len(value.losses) for value in both[0]}) > 1
    for slow, fast in zip(*both, strict=True):
        assert fast.losses == pytest.approx(slow.losses, rel=1e-10)
        for name in ("initial", "delta", "keys", "outputs"):
            torch.testing.assert_close(
                getattr(fast, name), getattr(slow, name), rtol=1e-9, atol=1e-11
            )
        assert fast.known == slow.known
    assert all(torch.equal(state[k], v) for k, v in model.hf.state_dict().items())
    assert model.hf.training and all(p.requires_grad for p in model.hf.parameters())
    assert not any(
        m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in model.hf.modules()
    )


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "qwen3"])
def test_eight_at_once_are_eight_alone(family):
    """Requests of unequal prompts, subjects and answers, some of which stop early (float64)."""
    model = tiny.model(family, **WIDE.get(family, {}))
    subjects = ["Paris", "the long book", "Ann Lee", "France", "Vienna", "Q", "New York", "Berlin"]
    answers = ["Rome", "New York", "a", "nobody knows", "French", "English", "It", "Italy, as ever"]
    requests = [
        EditRequest(
            str(i), f"{start}{s} stands{' in' * (i % 2)}", a, s, (len(start), len(start + s))
        )
        for i, (s, a) in enumerate(zip(subjects, answers, strict=True))
        for start in ["The " * (i % 3)]
    ]
    first = _values.optimise(model, LAYER, requests, CONTEXTS, HOW)
    third = sorted(value.losses[2] for value in first)
    how = replace(HOW, stop_loss=(third[3] + third[4]) / 2)
    together = _values.optimise(model, LAYER, requests, CONTEXTS, how)
    assert len({len(value.losses) for value in together}) > 1
    for request, value in zip(requests, together, strict=True):
        (alone,) = _values.optimise(model, LAYER, [request], CONTEXTS, how)
        assert value.losses == pytest.approx(alone.losses, rel=1e-10)
        for name in ("initial", "delta", "keys", "outputs"):
            torch.testing.assert_close(
                getattr(value, name), getattr(alone, name), rtol=1e-9, atol=1e-11
            )


def test_a_step_runs_only_the_changing_tokens(monkeypatch):
    model = tiny.model("llama")
    tokens, vocab = [], []
    real = model.logits_at

    def counting(ids, *rest, **more):
        logits, output = real(ids, *rest, **more)
        tokens.append(ids.shape)
        vocab.append(len(logits))
        return logits, output

    monkeypatch.setattr(model, "logits_at", counting)
    below = []
    model.matrix(2, "down").register_forward_hook(lambda *_: below.append(1))
    _values.optimise(model, 3, [REQUEST], CONTEXTS, replace(HOW, steps=3))
    row, at = _keys.answer_row(model, "", REQUEST)
    tail = len(row.ids) - 1 - at
    assert tokens[1:] == [(4, tail)] * 3, "the changed token and those after it"
    assert len(below) == 1, "blocks below run once"
    assert vocab == [1] + [3 * len(row.target) + 1] * 3, "no logits but the answers' and the KL's"


def test_where_rows_are_wider_than_a_window_everything_runs():
    model = tiny.model("mistral")  # looks back on six tokens
    assert not Downstream.serves(model, 7)
    slow, fast = (
        _values.optimise(model, LAYER, REQUESTS, CONTEXTS, HOW, runner=runner)
        for runner in (Whole, Downstream)
    )
    for a, b in zip(slow, fast, strict=True):
        assert a.losses == b.losses


def test_memory_splits_batches_and_changes_nothing():
    model = tiny.model("gpt2")
    whole = _values.optimise(model, LAYER, REQUESTS, CONTEXTS, HOW)
    model.memory_budget = 1
    split = _values.optimise(model, LAYER, REQUESTS, CONTEXTS, HOW)
    for a, b in zip(whole, split, strict=True):
        torch.testing.assert_close(a.delta, b.delta, rtol=1e-9, atol=1e-11)


def test_at_the_last_layer_nothing_is_nan():
    model = tiny.model("gpt2")
    for value in _values.optimise(model, 4, REQUESTS, CONTEXTS, HOW):
        assert torch.isfinite(value.delta).all() and len(value.losses) == HOW.steps


def test_an_answer_that_is_known_is_seen():
    model = tiny.model("phi")  # its head has a bias
    model.hf.lm_head.bias.data[model.tokenizer(" R")["input_ids"]] = 50
    requests = [replace(REQUEST, target_new=answer) for answer in ("R", "R or P", "P")]
    found = _values.optimise(model, LAYER, requests, CONTEXTS, HOW)
    assert [value.known for value in found] == [True, False, False]
    said = _values.notes(requests[0], found[0])
    assert said == ["the model answers 'R' already"]
