"""The optimisation of values runs only what can change, and gives what the whole model gives."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import tiny
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lga_fast.editors import _value_solver
from lga_fast.editors._value_problem import answer_row
from lga_fast.errors import UnsupportedModel
from lga_fast.forward.packed_suffix import supports_custom_attention
from lga_fast.forward.patched_forward import FullForward
from lga_fast.forward.suffix_forward import SuffixForward
from lga_fast.records import EditRequest
from tests.editors.value_cases import CONTEXTS, HOW, LAYER, REQUEST, REQUESTS

pytestmark = pytest.mark.usefixtures("keep_double")

# Windows as wide as real ones are, against the rows here.
WIDE: dict[str, Any] = {"gpt_neo": {"window_size": 64}}
for _name in ("exaone4", "gemma2", "gemma3", "gemma3_text", "gemma4_text", "mistral"):
    WIDE[_name] = {"sliding_window": 64}
# A change at layer 2 reaches layer 3, before attention reads another layer's keys.
WIDE["gemma3n_text"] = {"sliding_window": 64, "num_kv_shared_layers": 1}
# Their blocks run as those of another family do.
ALIKE = {"ernie4_5", "glm", "granite", "nemotron", "olmo3", "qwen2", "seed_oss", "smollm3"}
ALIKE |= {"stablelm", "starcoder2"}


PLACES = [(1, ("mlp", "attention"), None), (2, ("block",), 3)]  # of every family
FURTHER = [  # of some
    (0, ("mlp",), None),
    (2, ("mlp",), None),
    (1, ("attention",), None),
    (1, ("mlp", "attention"), 2),
]


@pytest.mark.parametrize(
    ("family", "layer", "sites", "loss_layer"),
    [(name, *place) for name in tiny.dense() if name not in ALIKE for place in PLACES]
    + [(name, *place) for name in ("gpt2", "gptj", "gemma3") for place in FURTHER],
    ids=str,
)
def test_running_what_can_change_gives_what_running_everything_gives(
    family, layer, sites, loss_layer
):
    model = tiny.model(family, **WIDE.get(family, {}))
    if family == "gemma3n_text" and (loss_layer or "block" in sites):
        with pytest.raises(UnsupportedModel, match="the model's blocks have several residual"):
            _value_solver.optimise(
                model, layer, REQUESTS, CONTEXTS, replace(HOW, loss_layer=loss_layer), sites=sites
            )
        return
    state = {k: v.clone() for k, v in model.hf.state_dict().items()}
    how = replace(HOW, loss_layer=loss_layer)
    plain = _value_solver.optimise(
        model, layer, REQUESTS, CONTEXTS, how, sites=sites, runner=FullForward, show_progress=False
    )
    low, high, _ = sorted(value.losses[2] for value in plain)
    how = replace(how, stop_loss=(low + high) / 2)  # some stop early, not all
    both = [
        _value_solver.optimise(model, layer, REQUESTS, CONTEXTS, how, sites=sites, runner=runner)
        for runner in (FullForward, SuffixForward)
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
    first = _value_solver.optimise(model, LAYER, requests, CONTEXTS, HOW)
    third = sorted(value.losses[2] for value in first)
    how = replace(HOW, stop_loss=(third[3] + third[4]) / 2)
    together = _value_solver.optimise(model, LAYER, requests, CONTEXTS, how)
    assert len({len(value.losses) for value in together}) > 1
    for request, value in zip(requests, together, strict=True):
        (alone,) = _value_solver.optimise(model, LAYER, [request], CONTEXTS, how)
        assert value.losses == pytest.approx(alone.losses, rel=1e-10)
        for name in ("initial", "delta", "keys", "outputs"):
            torch.testing.assert_close(
                getattr(value, name), getattr(alone, name), rtol=1e-9, atol=1e-11
            )


@pytest.mark.parametrize(
    ("family", "sites"),
    [(name, ("mlp",)) for name in tiny.dense() if name not in ALIKE]
    + [(name, sites) for name in ("gpt2", "gptj", "gemma3") for _, sites, _ in PLACES],
    ids=str,
)
def test_layers_that_share_forwards_are_each_alone(family, sites, monkeypatch):
    """At the first layer all requests stop early, so that forwards go on from the next one."""
    model, layers = tiny.model(family, **WIDE.get(family, {})), [0, 1, 3]
    if family == "gemma3n_text":
        layers = [1, 2]  # a change at layer 3 reaches no later keys
    solve = partial(_value_solver.optimise_at, requests=REQUESTS, contexts=CONTEXTS, sites=sites)
    monkeypatch.setattr(_value_solver, "_FREE_TOKENS", {"cpu": 0})
    (first,) = solve(model, layers[:1], optimisation=HOW).values()
    how = replace(HOW, stop_loss=max(value.losses[2] for value in first) + 1e-9)
    alone = solve(model, layers, optimisation=how)
    problems, real = [], _value_solver.ValueProblem
    monkeypatch.setattr(
        _value_solver, "ValueProblem", lambda *args: problems.append(real(*args)) or problems[-1]
    )
    monkeypatch.setattr(_value_solver, "_FREE_TOKENS", {"cpu": 1000})
    together = solve(model, layers, optimisation=how)
    assert all(len(problem.requests) >= len(layers) for problem in problems)
    assert all(len(value.losses) <= 3 for value in together[layers[0]])
    for n in layers:
        for value, own in zip(together[n], alone[n], strict=True):
            assert value.losses == pytest.approx(own.losses, rel=1e-10)
            for name in ("initial", "delta", "keys", "outputs"):
                torch.testing.assert_close(
                    getattr(value, name), getattr(own, name), rtol=1e-9, atol=1e-11
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
    _value_solver.optimise(model, 3, [REQUEST], CONTEXTS, replace(HOW, steps=3))
    row, at = answer_row(model, "", REQUEST)
    tail = len(row.ids) - 1 - at
    assert tokens[1:] == [(1, 3 * tail + 1)] * 3, "no token but those that are read or lead there"
    assert len(below) == 1, "blocks below run once"
    assert vocab == [1] + [3 * len(row.target) + 1] * 3, "no logits but the answers' and the KL's"


def test_projections_run_where_they_change_or_are_read(monkeypatch):
    """Block 4 of 5 follows the changed one and is the last."""
    model = tiny.model("llama")
    block = model.part(4, "block")
    tokens = {name: [] for name, m in block.named_modules() if isinstance(m, torch.nn.Linear)}
    names = {block.get_submodule(name).weight: name for name in tokens}
    linear = torch.nn.functional.linear

    def counting(x, weight, bias=None):
        if weight in names:
            tokens[names[weight]].append(x.numel() // x.shape[-1])
        return linear(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counting)
    _value_solver.optimise(model, 3, [REQUEST], CONTEXTS, replace(HOW, steps=3))
    row, at = answer_row(model, "", REQUEST)
    every, read, changed = 3 * (len(row.ids) - 1 - at) + 1, 3 * len(row.target) + 1, 4
    assert read < every
    for name, counts in tokens.items():  # what the first step makes of them holds for all others
        first = read if "mlp" in name else every
        later = changed if name[10:] in ("q_proj", "k_proj", "v_proj") else read
        assert counts[1:] == [first, later, later], name


@pytest.mark.parametrize("family", ["llama", "gpt_neo"])
def test_the_models_own_attention_comes_back(family, monkeypatch):
    model = tiny.model(family)
    assert supports_custom_attention(model) == (family == "llama")

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    end = partial(monkeypatch.setattr, model, "logits_at", stop)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda adam: end())
    with pytest.raises(KeyboardInterrupt):
        _value_solver.optimise(model, LAYER, REQUESTS, CONTEXTS, HOW)
    assert model.config._attn_implementation == "eager"
    assert not [name for name in ALL_ATTENTION_FUNCTIONS if name.startswith("lga_fast")]


def test_where_rows_are_wider_than_a_window_they_run_from_their_first_token():
    model = tiny.model("mistral", sliding_window=12)
    slow, fast = (
        _value_solver.optimise(model, LAYER, REQUESTS, CONTEXTS, HOW, runner=runner)
        for runner in (FullForward, SuffixForward)
    )
    for a, b in zip(slow, fast, strict=True):
        assert b.losses == pytest.approx(a.losses, rel=1e-10)
        torch.testing.assert_close(b.delta, a.delta, rtol=1e-9, atol=1e-11)


def test_memory_splits_batches_and_changes_nothing():
    model = tiny.model("gpt2")
    whole = _value_solver.optimise(model, LAYER, REQUESTS, CONTEXTS, HOW)
    model.memory_budget = 1
    split = _value_solver.optimise(model, LAYER, REQUESTS, CONTEXTS, HOW)
    for a, b in zip(whole, split, strict=True):
        torch.testing.assert_close(a.delta, b.delta, rtol=1e-9, atol=1e-11)
