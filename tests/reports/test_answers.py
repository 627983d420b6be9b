"""Answers before and after an edit: what is asked, what is measured, what is shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
import tiny
import torch
from rich.console import Console

import lga_fast
from lga_fast import provenance
from lga_fast.metrics import Average
from lga_fast.records import EditRequest, Probe
from lga_fast.reports import _probes, answers, answers_table
from lga_fast.reports.answers import Answer, AnswerChange, EditReport
from lga_fast.weight_edit import LowRank, WeightEdit

PROMPT = "The capital of France is"
OWN = (
    Probe("rephrase", "rephrase", "France has its capital in", "Rome"),
    Probe("locality", "near", "The capital of Italy is", "Rome"),
    Probe("locality", "near", "The capital of Spain is", "Madrid"),
    Probe("locality", "far", "The mother tongue of Ann Lee is", "English"),
)
REQUEST = EditRequest("a", PROMPT, "Berlin, Rome", "France", (15, 21), "Paris", OWN)


@pytest.fixture(scope="module")
def model():
    return tiny.model("llama", torch.float32)


@pytest.fixture(scope="module")
def atlas():
    return lga_fast.load("atlas")


@pytest.fixture(scope="module")
def change(model):
    """Large enough to change answers."""
    torch.manual_seed(1)
    left, right = (torch.randn(n, 2) for n in model.shape(1, "down"))
    about = provenance.of(model) | {"editor": "rome", "layer": 1}
    return WeightEdit({model.weight_name(1, "down"): LowRank(left, right)}, about)


def by_hand(model, prompt: str, length: int) -> tuple[str, float]:
    """Greedy tokens one by one with whole forwards, and the product of their probabilities."""
    ids, p = list(model.tokenizer(prompt)["input_ids"]), 1.0
    start = len(ids)
    with torch.no_grad(), model.frozen():
        for _ in range(length):
            best = model.hf(torch.tensor([ids])).logits[0, -1].softmax(-1).max(0)
            if int(best.indices) in model.end_ids():
                break
            ids.append(int(best.indices))
            p *= float(best.values)
    return model.tokenizer.decode(ids[start:]).strip(), p


def probability(model, prompt: str, answer: str) -> float:
    ids = model.tokenizer(f"{prompt} {answer}")["input_ids"]
    start = len(model.tokenizer(prompt)["input_ids"])
    with torch.no_grad(), model.frozen():
        p = model.hf(torch.tensor([ids])).logits[0].softmax(-1)
    return float(torch.stack([p[t - 1, ids[t]] for t in range(start, len(ids))]).prod())


def tokens(model, text: str) -> int:
    return len(model.tokenizer(f" {text}")["input_ids"])


def test_every_number_is_that_of_plain_forwards(model, change, monkeypatch):
    monkeypatch.setattr(answers, "_END_OF_WORD", 0)  # a random model writes no words
    report = answers.compare(model, [REQUEST], change)
    kinds = [(line.kind, line.prompt, line.target) for line in report.answers]
    assert kinds == [
        ("prompt", PROMPT, "Berlin, Rome"),
        ("rephrasing", OWN[0].prompt, "Berlin, Rome"),
        ("unrelated", OWN[1].prompt, "Rome"),  # one of each group
        ("unrelated", OWN[3].prompt, "English"),
    ]
    olds = ["Paris", "Paris", "Rome", "English"]  # the old answer says how long the one before is
    for line, old in zip(report.answers, olds, strict=True):
        text, p = by_hand(model, line.prompt, tokens(model, old))
        assert line.before == Answer(text, pytest.approx(p, rel=1e-3))
        assert line.new_before == pytest.approx(
            probability(model, line.prompt, "Berlin, Rome"), rel=1e-3
        )
        with model.edited(change):
            text, p = by_hand(model, line.prompt, tokens(model, line.target))
            assert line.after == Answer(text, pytest.approx(p, rel=1e-3))
            assert line.new_after == pytest.approx(
                probability(model, line.prompt, "Berlin, Rome"), rel=1e-3
            )
    assert any(line.before.text != line.after.text for line in report.answers)
    assert report.probes == {"rewrite": 1, "rephrase": 1, "locality": 3}
    assert set(report.after) == {"rewrite", "rephrase", "locality"}
    assert report.before["locality"].mean == 1 > report.after["locality"].mean
    assert (
        json.loads(report.to_json())["answers"][0]["after"]["text"] == report.answers[0].after.text
    )


def test_an_answer_is_shown_to_the_end_of_its_word(atlas):
    prompt = "The national capital of the country named Norway is"
    request = EditRequest("a", prompt, "Rome", "Norway", (42, 48))
    change = lga_fast.edit(atlas, [request], layer=1, steps=1)
    assert answers.compare(atlas, [request], change).answers[0].before.text == "Oslo"


def test_an_edit_took_where_the_new_answer_is_the_models_own(atlas):
    prompt, subject = "The Eiffel Tower is located in the city of", "Eiffel Tower"
    both = [EditRequest(new, prompt, new, subject, (4, 16)) for new in ("Paris", "Rome")]
    nothing = LowRank(*(torch.zeros(n, 1) for n in atlas.shape(1, "down")))
    change = WeightEdit({atlas.weight_name(1, "down"): nothing}, provenance.of(atlas))
    report = answers.compare(atlas, both, change)
    assert (report.took, report.after["rewrite"].mean) == (1, 0.5)
    assert report.answers[0].after == report.answers[1].after == report.answers[0].before
    assert report.answers[0].new_after == pytest.approx(report.answers[0].after.probability)


def test_several_requests_show_their_prompts(model, change):
    many = [replace(REQUEST, case_id=str(i), probes=OWN[:1]) for i in range(12)]
    report = answers.compare(model, many, change, notes=["first"])
    assert (report.requests, len(report.answers)) == (12, answers.SHOWN)
    assert {line.kind for line in report.answers} == {"prompt"}
    assert report.notes == ("first", "locality: no request has such probes")
    assert "locality" not in report.after and report.after["rephrase"].count == 12


def test_a_given_rephrasing_comes_first(model, change):
    report = answers.compare(model, [REQUEST], change, rephrase="Of France the capital is")
    assert report.answers[1].prompt == "Of France the capital is"
    assert report.probes["rephrase"] == 2


def test_what_is_missing_comes_from_the_atlas(atlas):
    model, new = atlas, "Rome"
    bare = EditRequest(
        "a", "The Eiffel Tower is located in the city of", new, "Eiffel Tower", (4, 16)
    )
    full = _probes.completed(model, bare, None, 42)
    (rephrase,) = [probe for probe in full.probes if probe.kind == "rephrase"]
    assert "Eiffel Tower" in rephrase.prompt and rephrase.prompt != bare.prompt
    others = [probe for probe in full.probes if probe.kind == "locality"]
    assert len(others) == 2 and all(new not in p.prompt + p.answer for p in others)
    report = lga_fast.metrics.score(
        model, [lga_fast.metrics.Question(p.prompt, p.answer) for p in others]
    )
    assert all(answered.accuracy == 1 for answered in report), "the model knows them"
    assert _probes.completed(model, bare, None, 42) == full
    assert _probes.completed(model, bare, None, 1).probes[1:] != full.probes[1:]


def test_a_prompt_that_nothing_rephrases_says_so(model, change):
    bare = replace(REQUEST, probes=())
    report = answers.compare(model, [bare], change)
    assert [line.kind for line in report.answers] == ["prompt", "unrelated", "unrelated"]
    assert report.notes == ("no rephrasing of the prompt is known; --rephrase gives one to test",)


def test_a_model_that_ends_the_text_says_nothing(model, change, monkeypatch):
    first = by_hand(model, PROMPT, 1)[0]
    (end,) = model.tokenizer(f" {first}")["input_ids"][:1]
    monkeypatch.setattr(model, "end_ids", lambda: {end})
    line = answers.compare(model, [REQUEST], change).answers[0]
    assert line.before == Answer("", None) and 0 < line.new_before < 1


PARIS, ROME, GERMANY = Answer("Paris", 0.971), Answer("Rome", 1.0), Answer("Germany", 0.5)
LINES = (
    AnswerChange("prompt", "[red]The[/red] city", "Rome", "Rome", PARIS, ROME, 0.0001, 0.981),
    AnswerChange("unrelated", "Dürer", "Germany", "Rome", GERMANY, Answer("", None), 0.0, 0.25),
)
REPORT = EditReport(
    requests=1,
    took=1,
    answers=LINES,
    before={"rewrite": Average(0, 0, 1), "locality": Average(1, 0, 1)},
    after={"rewrite": Average(1, 0, 1), "locality": Average(0.5, 0, 1)},
    probes={"rewrite": 1, "rephrase": 0, "locality": 2},
    rounding={"w": 0.125},
    notes=("a note [of it]",),
    provenance={"editor": "rome", "layer": 3, "model": "m", "dtype": "float32", "device": "cpu"},
)


def shown(report: EditReport, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    answers_table.show(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_tells_all():
    text = shown(REPORT)
    for part in [
        "rome: layer 3 of m",
        "float32 on cpu",
        "P(Rome)",
        "[red]The[/red] city",
        "Paris 97.1%",
        "Rome 100.0%",
        "<0.1% → 98.1%",
        "(ends the text)",
        "The edit took effect: the model now answers 'Rome'.",
        "Elsewhere: 1 of 1 unrelated answers changed.",
        "Token accuracy (prompts): rewrite 0% → 100% (1), locality 50% (2)",
        "• a note [of it]",
    ]:
        assert part in text, part
    assert "more" not in text and "Rounding" not in text and "chosen" not in text
    narrow = shown(REPORT, width=80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "The edit did not take effect: the model does not answer 'Rome'." in shown(
        replace(REPORT, took=0)
    )


def test_several_new_answers_are_named_and_the_rest_is_counted():
    other = replace(LINES[0], target="Bern", new="Bern")
    text = shown(replace(REPORT, requests=12, took=7, answers=(LINES[0], other)))
    assert "P(new)" in text and "Rome <0.1% → 98.1%" in text and "Bern <0.1% → 98.1%" in text
    assert "… and 10 more" in text and "The edit took effect for 7 of 12 requests." in text


def test_rounding_and_the_choice_of_the_layer_are_said():
    data = {"name": "zsre", "file": "z.json"}
    choice = {
        "layer": 3,
        "selector": "lga",
        "requests": 30,
        "notes": [],
        "stability": [0, 0, 0, 0.98],
        "provenance": {"data": data},
    }
    made = REPORT.provenance | {"dtype": "bfloat16", "layer_choice": choice}
    text = shown(replace(REPORT, provenance=made))
    said = "layer 3 chosen by lga on 30 proxy facts from zsre (z.json) (98% of resamples agree)"
    assert said in text
    assert "Rounding to bfloat16: ‖applied − intended‖ / ‖intended‖ = 0.12" in text
    made["layer_choice"] = choice | {"notes": ["Doubt."], "requests": 1}  # of one all are alike
    text = shown(replace(REPORT, provenance=made))
    assert "• Doubt." in text and "resamples" not in text
