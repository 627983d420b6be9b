"""CounterFact's measures against probabilities row by row, and the harmonic mean of all."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

import lga_fast
from lga_fast.metrics import averages, choose, measure_cases
from lga_fast.records import EditRequest, Probe
from lga_fast.tokens import target_row
from tests.models.edits import make_edit

REQUEST = EditRequest(
    "0",
    "The capital of France is",
    "New York",
    "France",
    (15, 21),
    "Rome, as everyone knows",
    (
        Probe("rephrase", "rephrase", "France has its capital in", ""),
        Probe("rephrase", "rephrase", "In France people govern from", ""),
        Probe("locality", "neighborhood", "The capital of Italy is", "Rome"),
        Probe("locality", "neighborhood", "The capital of Spain is", "Berlin or Vienna"),
        Probe("locality", "other", "Who wrote the long book? A:", "Nobody"),
    ),
)


def probability(model, prompt, answer):
    """Geometric mean over the answer's tokens, in float64."""
    row = target_row(model.tokenizer, prompt, answer)
    with torch.no_grad(), model.frozen():
        log_p = model.hf(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    places = range(row.start - 1, len(row.ids) - 1)
    return math.exp(sum(float(log_p[t, row.ids[t + 1]]) for t in places) / len(row.target))


def by_hand(model):
    new, old = REQUEST.target_new, REQUEST.target_old
    pairs = {
        "e": [(REQUEST.prompt, new, old)],
        "p": [(probe.prompt, new, old) for probe in REQUEST.probes[:2]],
        "n": [(probe.prompt, probe.answer, new) for probe in REQUEST.probes[2:4]],
    }
    values = {}
    for kind, asked in pairs.items():
        margins = [probability(model, p, a) - probability(model, p, b) for p, a, b in asked]
        values[f"{kind}s"] = sum(margin > 0 for margin in margins) / len(margins)
        values[f"{kind}m"] = pytest.approx(sum(margins) / len(margins), rel=1e-9)
    return values


@pytest.mark.usefixtures("keep_double")
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_values_are_those_of_plain_probabilities(family):
    model = tiny.model(family)
    edit = make_edit(model, scale=2.0)
    metrics = choose(["counterfact", "overall"])
    (values,), _ = measure_cases(model, [REQUEST], [edit], metrics)
    with model.edited(edit):
        expected = by_hand(model)
    assert values == expected | {"overall": None}
    (plain,), _ = measure_cases(model, [REQUEST], None, metrics)
    assert plain == by_hand(model) | {"overall": None} and plain != values


def test_what_cannot_be_compared_has_no_value():
    model = tiny.model("gpt2", torch.float32)
    same = EditRequest("1", REQUEST.prompt, "Rome", target_old=" Rome", probes=REQUEST.probes)
    bare = EditRequest("2", REQUEST.prompt, "Rome")
    (same_values, bare_values), _ = measure_cases(
        model, [same, bare], None, choose(["counterfact"])
    )
    assert {name for name, value in same_values.items() if value is not None} == {"ns", "nm"}
    assert set(bare_values.values()) == {None}


def test_the_score_is_the_harmonic_mean_of_the_means():
    metrics = choose(["counterfact"])
    cases = [{"es": 1.0, "ps": 0.5, "ns": 0.2}, {"es": 1.0, "ps": 0.5, "ns": None}]
    score = averages(cases, metrics)["s"]
    assert (score.mean, score.sd, score.count) == (pytest.approx(3 / (1 + 2 + 5)), 0, 1)
    assert averages([{"es": 1.0, "ps": 0.0, "ns": 0.2}], metrics)["s"].mean == 0
    assert "s" not in averages([{"es": 1.0, "ps": 0.5, "ns": None}], metrics)
    assert "s" not in averages(cases)


def test_an_evaluation_has_the_score():
    model = tiny.model("gpt2", torch.float32)
    options = {"layer": 1, "contexts": ("",), "steps": 3, "metrics": ["counterfact"]}
    result = lga_fast.evaluate(model, [REQUEST], **options)
    parts = [result.summary.after[name].mean for name in ("es", "ps", "ns")]
    expected = 3 / sum(1 / part for part in parts) if all(parts) else 0
    assert result.summary.after["s"].mean == pytest.approx(expected)
    assert "s" in result.summary.before and "s" not in result[0].after
