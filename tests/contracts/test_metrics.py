"""Every metric keeps the same contract."""

from __future__ import annotations

import dataclasses
import json

import pytest
import tiny
import torch
from limits import refused

from lga_fast import registry
from lga_fast.errors import MetricError, OptionError
from lga_fast.metrics import CaseMetric, SummaryMetric, Values, choose, measurable, measure_cases
from lga_fast.options import Options
from lga_fast.records import AnswerLists, EditRequest, Probe
from tests.models.edits import bits, make_edit

NAMES = registry.names("lga_fast.metrics")
LARGE = ("bert_score", "easyedit_bert_score")
OPTIONS = {
    "fluency": {"sentences": False, "max_total_tokens": 24},  # nltk's data may not be here
    "composite": {"max_total_tokens": 24},
    "unstructured": {"exclude": LARGE, "max_total_tokens": 24},
}
FULL = EditRequest(
    "full",
    "The capital of France is",
    "Rome",
    probes=tuple(
        Probe(kind, "group", f"Of {kind}: the tower stands in", "New York")
        for kind in ("rephrase", "locality", "portability")
    ),
    answers=AnswerLists(("Paris",), ("Berlin", "Vienna")),
)
BARE = EditRequest("bare", "The mother tongue of Ann Lee is", "French")


@pytest.fixture
def options(tmp_path):
    file = tmp_path / "questions.jsonl"
    rows = [{"question": f"{i}?", "choices": ["a", "b", "c", "d"], "answer": 1} for i in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return OPTIONS | {"mmlu": {"path": str(file)}}


@pytest.mark.parametrize("name", NAMES)
def test_values_before_and_after_an_edit(name, options):
    model = tiny.model("qwen3", torch.float32)
    weights = bits(model)
    metrics = choose([name], {k: v for k, v in options.items() if k == name})
    (metric,) = metrics.values()
    assert isinstance(metric, SummaryMetric if name == "overall" else CaseMetric)
    plain, before = measure_cases(model, [FULL, BARE], None, metrics)
    edits = [make_edit(model), None]
    edited, again = measure_cases(model, [FULL, BARE], edits, metrics, before)
    assert again == before and bits(model) == weights
    assert measure_cases(model, [FULL, BARE], edits, metrics) == (edited, before)
    assert edited[1] == plain[1]  # it is measured without an edit
    for values in (*plain, *edited):
        assert set(metric.headline) <= set(values)
        assert all(v is None or isinstance(v, float) for v in values.values()), values
        json.dumps(values)
    for fact, values in zip((FULL, BARE), plain, strict=True):
        named = {n for n in values if n in metric.headline or "/" in n}
        told = set(measurable(metrics, [fact])) if name != "overall" else named
        assert {n for n in named if values[n] is not None} <= told <= named, "told beforehand"
    if name != "overall":
        assert all(edited[0][key] is not None for key in metric.headline)


def test_no_two_metrics_give_a_value_of_the_same_name(options):
    model = tiny.model("gpt2", torch.float32)
    cases: list[Values] = measure_cases(model, [FULL], None, choose(NAMES, options))[0]
    names = [key for m in choose(NAMES, options).values() for key in m.headline]
    assert len(set(names)) == len(names)
    assert set(names) <= set(cases[0])


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_measures(name):
    kind = registry.member("lga_fast.metrics", name).Metric
    assert kind.__doc__ and isinstance(kind.unit, str) and isinstance(kind.higher_is_better, bool)
    for field in dataclasses.fields(kind):
        assert field.default is not dataclasses.MISSING, field.name
        assert field.metadata["help"].endswith("."), field.name


@pytest.mark.parametrize("name", NAMES)
def test_options_out_of_their_limits_are_refused_on_creation(name, options):
    kind = registry.member("lga_fast.metrics", name).Metric
    assert issubclass(kind, Options)
    for option, value in refused(kind):
        with pytest.raises(OptionError, match=rf"{name}: {option}.*expected .*got ") as caught:
            kind(**options.get(name, {}) | {option: value})
        assert isinstance(caught.value, MetricError)
