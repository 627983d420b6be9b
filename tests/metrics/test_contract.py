"""Every metric keeps the same contract."""

from __future__ import annotations

import dataclasses
import json

import pytest
import tiny
import torch

from lga_fast import registry
from lga_fast.metrics import Values, choose, measure_cases
from lga_fast.records import AnswerLists, EditRequest, Probe
from tests.models.edits import make_edit

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
def test_values_are_numbers_or_none_and_the_headline_is_among_them(name, options):
    model = tiny.model("qwen3", torch.float32)
    metrics = choose([name], {k: v for k, v in options.items() if k == name})
    cases, _ = measure_cases(model, [FULL, BARE], [make_edit(model), None], metrics)
    made = metrics[name]
    for values in cases:
        assert set(made.headline) <= set(values)
        assert all(v is None or isinstance(v, float) for v in values.values()), values
        json.dumps(values)
    if name != "overall":
        assert all(cases[0][key] is not None for key in made.headline)


def test_no_two_metrics_give_a_value_of_the_same_name(options):
    model = tiny.model("gpt2", torch.float32)
    cases: list[Values] = measure_cases(model, [FULL], None, choose(NAMES, options))[0]
    names = [key for m in choose(NAMES, options).values() for key in m.headline]
    assert len(set(names)) == len(names)
    assert set(names) <= set(cases[0])


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_measures(name):
    kind = registry.member("lga_fast.metrics", name).Metric
    assert kind.__doc__ and kind.unit and isinstance(kind.higher_is_better, bool)
    for field in dataclasses.fields(kind):
        assert field.default is not dataclasses.MISSING, field.name
        assert field.metadata["help"].endswith("."), field.name
