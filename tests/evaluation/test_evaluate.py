"""Evaluating: the same values as by hand, in every mode."""

from __future__ import annotations

from contextlib import ExitStack
from typing import get_args

import pytest

import lga_fast
from lga_fast import registry
from lga_fast.datasets import load_edits, split
from lga_fast.editors import _contexts
from lga_fast.errors import DataError, EditError, OptionError, UnknownName
from lga_fast.evaluation import loop
from lga_fast.evaluation_records import Average
from lga_fast.forward.decoding import greedy
from lga_fast.records import EditRequest
from tests.evaluation.runs import OPTIONS, REQUESTS, evaluate, tiny_model, untimed, values
from tests.models.edits import bits


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_single_edits_are_measured_as_each_alone_in_the_weights(family, monkeypatch):
    model = tiny_model(family)
    state = bits(model)
    with monkeypatch.context() as patch:
        patch.setattr(model, "edited", None)  # no weight is written
        results = evaluate(model, chunk=2)
    assert bits(model) == state
    plain, before = values(model, REQUESTS)
    for one, result, old in zip(REQUESTS, results, plain, strict=True):
        with model.edited(lga_fast.edit(model, [one], "r_rome", **OPTIONS)):
            (after,), _ = values(model, [one], before)
        assert (result.after, result.before) == (after, old)
        assert (result.case_id, result.layer) == (one.case_id, 1)
    assert any(r.after != r.before for r in results)
    assert untimed(evaluate(model, chunk=5)) == untimed(results)


def by_hand(model, when):
    """Edits one inside another, each solved on the model with the ones before."""
    _, before = values(model, REQUESTS)
    contexts = OPTIONS["contexts"]
    found = []
    with ExitStack() as applied:
        for one in REQUESTS:
            change = lga_fast.edit(model, [one], "rome", **OPTIONS | {"contexts": contexts})
            applied.enter_context(model.edited(change))
            if when == "after_each":
                found += values(model, [one], before)[0]
        return found or values(model, REQUESTS, before)[0]


@pytest.mark.parametrize("when", ["end", "after_each"])
def test_edits_of_a_sequence_accumulate(when):
    model = tiny_model()
    state = bits(model)
    results = evaluate(model, editor="rome", mode="sequential", eval_when=when, chunk=2)
    assert bits(model) == state
    assert [r.after for r in results] == by_hand(model, when)
    assert [r.before for r in results] == values(model, REQUESTS)[0]
    alone = evaluate(model, editor="rome")
    assert [r.after for r in results][1:] != [r.after for r in alone][1:]


def test_when_a_sequence_is_measured_makes_a_difference():
    model = tiny_model()
    runs = [
        evaluate(model, mode="sequential", eval_when=when, steps=8)
        for when in ("end", "after_each")
    ]
    assert runs[0][-1].after == runs[1][-1].after
    assert [r.after for r in runs[0]] != [r.after for r in runs[1]]


def test_a_batch_is_one_edit_for_all():
    model = tiny_model("llama")
    results = evaluate(model, mode="batch", chunk=2)
    plain, before = values(model, REQUESTS)
    with model.edited(lga_fast.edit(model, REQUESTS, **OPTIONS)):
        after, _ = values(model, REQUESTS, before)
    assert [(r.before, r.after) for r in results] == list(zip(plain, after, strict=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("editor", registry.names("lga_fast.editors"))
def test_every_editor_serves_every_mode(editor):
    model = tiny_model("llama")
    state, few = bits(model), REQUESTS[:3]
    found = {mode: evaluate(model, few, editor=editor, mode=mode) for mode in get_args(loop.Mode)}
    assert bits(model) == state
    for results in found.values():
        assert [r.before for r in results] == values(model, few)[0]
    _, before = values(model, few[:1])
    with model.edited(lga_fast.edit(model, few[:1], editor, **OPTIONS)):
        (after,), _ = values(model, few[:1], before)
    assert found["single"][0].after == after


def test_contexts_are_made_once_and_of_the_model_without_edits(monkeypatch):
    made = []

    def generate(model, *how):
        made.append(model.fingerprint())
        return ("", "The book. ")

    monkeypatch.setattr(_contexts, "generate", generate)
    model = tiny_model()
    for mode in ("single", "sequential", "batch"):
        evaluate(model, mode=mode, contexts=None, chunk=2)
    assert made == [model.fingerprint()] * 3


def test_the_summary_averages_what_there_is():
    model = tiny_model()
    edits = load_edits(REQUESTS, limit=4)
    results = evaluate(model, edits)
    summary = results.summary
    assert (summary.cases, summary.dropped, summary.noted) == (4, 1, 0)
    ported = [r.after["portability"] for r in results if "portability" in r.after]
    ported = [x for x in ported if x is not None]
    mean = sum(ported) / 2
    assert summary.after["portability"] == Average(mean, abs(ported[0] - mean) * 2**0.5, 2)
    assert summary.before["locality"] == Average(1.0, 0.0, 4)
    assert summary.after["rewrite"].count == 4
    assert summary.known == sum(r.before["rewrite"] == 1 for r in results)
    assert summary.seconds_edit == pytest.approx(sum(r.seconds_edit for r in results))
    seconds = summary.seconds_edit + summary.seconds_measure
    assert summary.edits_per_second == pytest.approx(4 / seconds)
    assert results[0].seconds_edit > 0 and results[0].peak_bytes > 1 << 20
    about = results.provenance["configuration"]
    assert about["model_fingerprint"] == model.fingerprint()
    assert about["editor_config"]["steps"] == 4 and about["metrics"]["overall"] == {"exclude": []}
    (made,) = results.provenance["made"]
    assert made["data"]["sha256"] == edits.provenance.sha256 and about["threads"]
    assert made["config_source"]["steps"] == "argument"


def test_what_is_known_of_a_request_stands_in_its_result():
    model = tiny_model("llama")
    twice = EditRequest("x", "Paris and Paris are", "Rome", "Paris", (0, 5))
    prompt = "The capital of France is Paris."
    said = model.tokenizer.decode(greedy(model, [model.tokenizer(prompt)["input_ids"]], [1])[0])
    known = EditRequest("y", prompt, said.strip(), "France", (15, 21))
    assert said.startswith(" ")
    for mode in ("single", "batch", "sequential"):
        results = evaluate(model, [known, twice], mode=mode)
        assert results[0].notes == (f"the model answers {said.strip()!r} already",)
        assert results[1].notes == ("the subject 'Paris' is in the prompt 2 times; one is edited",)
        assert [r.known for r in results] == [True, False]
        assert (results.summary.known, results.summary.noted) == (1, 2)
    results = evaluate(model, [known], metrics=["locality"])
    assert results.summary.known is None and "locality" not in results.summary.after


def test_metrics_are_chosen_by_name():
    options = {"fluency": {"sentences": False, "max_total_tokens": 20}}
    results = evaluate(
        tiny_model(), REQUESTS[:2], metrics=["rewrite", "fluency"], metric_options=options
    )
    assert set(results[0].after) == {"rewrite", "fluency", "fluency_raw"} == set(results[0].before)
    assert results.provenance["configuration"]["metrics"]["fluency"]["max_total_tokens"] == 20


def test_bad_input_is_refused_before_work_starts(tmp_path):
    model = tiny_model()
    edits = load_edits(REQUESTS)
    proxy, _ = split(edits, 2)
    lost = [EditRequest(f"x{i}", "It stands in", "Rome", "Paris") for i in range(7)]
    for requests, options, error, said in (
        (
            edits,
            {"proxy": [r.case_id for r in proxy]},
            DataError,
            "2 of 5 requests are among the 2",
        ),
        (edits, {"proxy": "case 1"}, DataError, "expected a list of case ids, got the text"),
        (
            edits,
            {"mode": "all"},
            OptionError,
            "mode: expected one of 'single', 'sequential', 'batch', got 'all'",
        ),
        (
            edits,
            {"eval_when": "now"},
            OptionError,
            "eval_when: expected one of 'end', 'after_each', got 'now'",
        ),
        (edits, {"eval_when": "after_each"}, OptionError, "is for mode='sequential'"),
        (edits, {"metrics": ["rewrit"]}, UnknownName, "Did you mean 'rewrite'"),
        (edits, {"chunk": 0}, OptionError, "chunk: expected a whole number of at least 1, got 0"),
        (edits, {"metrics": "rewrite"}, OptionError, "metrics: expected a list, each text, got"),
        (edits, {"out": tmp_path}, DataError, "expected a file to write, got a folder"),
        (edits, {"layer": 5}, EditError, "layers 0 to 4"),
        (edits, {"editor": "roma"}, UnknownName, "Did you mean 'rome'"),
        ([], {}, EditError, "at least one request"),
        (
            [*REQUESTS, *lost],
            {},
            EditError,
            "which 7 of 12 requests do not have: request 'x0': .* request 'x4': .*; and 2 more",
        ),
    ):
        with pytest.raises(error, match=said):
            evaluate(model, requests, **({"out": tmp_path / "results.jsonl"} | options))
    assert not list(tmp_path.iterdir())
