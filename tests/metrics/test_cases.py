"""Metrics driven together: each question once, and the same values as by hand."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast import metrics
from lga_fast.errors import EditError, MetricError, UnknownName
from lga_fast.metrics import _cases, averages, choose, measure_cases, score
from lga_fast.records import EditRequest, Probe
from tests.models.edits import bits, make_edit

REQUESTS = [
    EditRequest(
        "a",
        "The capital of France is",
        "New York",
        probes=(
            Probe("rephrase", "rephrase", "France has the capital", "New York"),
            Probe("locality", "one", "The capital of Italy is", "Rome, as everyone knows"),
            Probe("locality", "two", "In which city does the tower stand? It stands in", "Berlin"),
            Probe("portability", "hop", "Who wrote the long book? A:", "Nobody remembers"),
        ),
    ),
    EditRequest(
        "b",
        "The mother tongue of Ann Lee is",
        "French",
        probes=(Probe("locality", "one", "The capital of Italy is", "Rome, as everyone knows"),),
    ),
]
NAMES = ["rewrite", "rephrase", "locality", "portability", "fluency", "overall"]
OPTIONS = {"fluency": {"sentences": False, "max_total_tokens": 20}}


def chosen():
    return choose(NAMES, OPTIONS)


def edits_of(model):
    return [make_edit(model, [2], 1, 1, 0.5), make_edit(model, [1, 3], 2, 2, 0.5)]


@pytest.mark.usefixtures("keep_double")
def test_values_are_those_of_one_edited_model_after_another():
    model = tiny.model("gpt2")
    edits = edits_of(model)
    state = bits(model)
    cases, before = measure_cases(model, REQUESTS, edits, chosen())
    assert bits(model) == state
    plain, again = measure_cases(model, REQUESTS, None, chosen())
    assert again == before
    for request, edit, values in zip(REQUESTS, edits, cases, strict=True):
        with model.edited(edit):
            alone, _ = measure_cases(model, [request], None, chosen(), before)
        assert alone == [values]
    assert cases != plain and all(case["locality"] == 1 for case in plain)
    assert [case["locality/one"] for case in cases] != [1, 1]


@pytest.mark.usefixtures("keep_double")
def test_a_value_is_what_its_answers_say():
    model = tiny.model("llama")
    edits = edits_of(model)
    cases, _ = measure_cases(model, REQUESTS, edits, chosen())
    probe = REQUESTS[0].probes[2]
    old, new = score(model, [metrics.Question(probe.prompt, probe.answer)] * 2, [None, edits[0]])
    assert cases[0]["locality/two"] == new.agreement(old)
    assert cases[0]["locality"] == (cases[0]["locality/one"] + cases[0]["locality/two"]) / 2
    assert cases[1]["rephrase"] is None and cases[1]["portability"] is None
    assert "portability/hop" in cases[0] and "portability/hop" not in cases[1]
    headline = [cases[1][name] for name in ("rewrite", "locality", "fluency")]
    assert cases[1]["overall"] == pytest.approx(sum(headline) / 3)


def test_equal_questions_are_asked_once_and_answers_before_the_edit_are_reused(monkeypatch):
    model = tiny.model("gpt2", torch.float32)
    asked = []
    plain = _cases.score
    monkeypatch.setattr(
        _cases, "score", lambda m, q, *a, **k: asked.append(q) or plain(m, q, *a, **k)
    )
    named = choose(["rewrite", "rephrase", "locality", "portability"])
    cases, before = measure_cases(model, REQUESTS, None, named)
    assert [len(q) for q in asked] == [6]  # of 7, two are the same; nothing is edited
    assert cases[0]["rewrite"] is not None
    measure_cases(model, REQUESTS, edits_of(model), named, before)
    assert [len(q) for q in asked] == [6, 7]  # one edit per request
    shared = make_edit(model)
    measure_cases(model, REQUESTS, [shared, shared], named, before)
    assert len(asked[-1]) == 6
    assert all(type(row).__name__ == "Row" for row in asked[-1]), "tokenised once"


def test_averages_are_over_the_requests_that_have_a_value():
    found = averages([{"x": 1.0, "y": None}, {"x": 0.0, "y": None, "z": 3.0}, {"x": 0.5}])
    assert list(found) == ["x", "z"]
    assert found["x"] == metrics.Average(0.5, 0.5, 3)
    assert found["z"] == metrics.Average(3.0, 0.0, 1)


def test_bad_input_is_refused():
    model = tiny.model("gpt2", torch.float32)
    named = choose(["rewrite"])
    with pytest.raises(MetricError, match="one per request, 2, got 1"):
        measure_cases(model, REQUESTS, [None], named)
    _, before = measure_cases(model, REQUESTS[:1], None, named)
    with pytest.raises(MetricError, match="1 are missing, such as Question"):
        measure_cases(model, REQUESTS, None, named, before)
    with pytest.raises(EditError, match="solved on other weights"):
        other = tiny.model("gpt2", torch.float64)
        other.hf.double().transformer.h[0].mlp.c_fc.weight.data.add_(1)
        measure_cases(other, REQUESTS, [make_edit(model)] * 2, named)
    with pytest.raises(UnknownName, match="no 'rewrit' in metrics. Did you mean 'rewrite'"):
        choose(["rewrit"])
    with pytest.raises(UnknownName, match="has no option layer"):
        choose(["rewrite"], {"rewrite": {"layer": 1}})
    with pytest.raises(UnknownName, match="options for fluency: expected chosen metrics"):
        choose(["rewrite"], OPTIONS)
    with pytest.raises(MetricError, match="exclude=fluency: expected .* measured: rewrite"):
        choose(["overall", "rewrite"], {"overall": {"exclude": ["fluency"]}})
    assert measure_cases(model, [], [], named) == ([], {})


def test_dicts_are_requests_too():
    model = tiny.model("gpt2", torch.float32)
    fact = {"prompt": "The capital of {} is", "subject": "France", "target_new": "New York"}
    bare = EditRequest("0", "The capital of France is", "New York")
    metrics = choose(["rewrite", "log_prob"])
    assert measure_cases(model, [fact], None, metrics) == measure_cases(
        model, [bare], None, metrics
    )


@pytest.mark.parametrize("value", [1e300, 10**300, -1e308, float("inf"), float("nan")])
def test_huge_values_are_averaged_without_an_error(value):
    average = averages([{"x": value}, {"x": 1.0}, {"x": -value}])["x"]
    assert average.count == 3 and not 0 <= average.sd < 1e299
    assert averages([{"x": value}])["x"].count == 1


def test_the_spread_is_that_of_a_sample():
    average = averages([{"x": 1}, {"x": 0.0}, {"x": None}, {"x": 0.5}])["x"]
    assert (average.mean, average.sd, average.count) == (0.5, 0.5, 3)
    assert averages([{"x": 0.25}])["x"].sd == 0
