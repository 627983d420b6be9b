"""Composite editing: which of a question's answers hold against the wrong ones."""

from __future__ import annotations

import pytest
import tiny

from lga_fast.errors import MetricError
from lga_fast.metrics import (
    Continuation,
    GeneratedText,
    Question,
    ScoredAnswer,
    choose,
    measure_cases,
)
from lga_fast.metrics.overall import Metric as Overall
from lga_fast.records import AnswerLists, EditRequest, Probe
from lga_fast.tokens import Row

LISTS = AnswerLists(("Syria", "Iran"), ("Chad", "Mali", "Iran"), ("Craig",))
PARA = (Probe("rephrase", "rephrase", "Turkey is adjacent to", "Greece"),)
REQUEST = EditRequest("a", "Turkey borders", "Greece", probes=PARA, answers=LISTS)
BARE = EditRequest("b", "Turkey borders", "Greece")


def metric():
    return choose(["composite"])["composite"]


def answered(*log_probs):
    size = len(log_probs)
    return ScoredAnswer(Row((0, *range(size)), 1), (0,) * size, log_probs)


def test_every_prompt_is_asked_with_every_answer():
    answers = ["Greece", "Syria", "Iran", "Chad", "Mali"]  # Iran is right, and so not wrong
    assert metric().questions(REQUEST) == [
        *(Question("Turkey borders", a) for a in answers),
        *(Question("Turkey is adjacent to", a) for a in answers),
        Continuation("Turkey borders", 100),
    ]


def test_an_answer_holds_when_it_is_likelier_than_every_wrong_one():
    prompt = [answered(-1.0, -2.0), answered(-3.0), answered(-1.4), answered(-9), answered(-1.5)]
    para = [answered(-1), answered(-1), answered(-1), answered(-2), answered(-3)]
    written = GeneratedText("Turkey borders Greece and Chad.", " Greece and Chad.")
    found = metric().measure(REQUEST, [], [*prompt, *para, written])
    # -1.5 by the mean over tokens is not above -1.5; -3 is not; -1.4 is
    assert found["srs"] == pytest.approx(1 / 3) and found["sr_1"] == 0
    assert found["gsr"] == 1
    # one of three written words and of three answers
    assert found["lsr"] == pytest.approx(1 / 3)
    assert Overall().combine(found)["overall"] == pytest.approx(sum(found.values()) / 4)
    assert metric().measure(REQUEST, [], [*para, *prompt, written])["sr_1"] == 1


def test_without_lists_of_answers_there_is_no_value():
    made = metric()
    assert made.questions(BARE) == []
    assert made.measure(BARE, [], []) == dict.fromkeys(("srs", "sr_1", "gsr", "lsr"))


def test_it_runs_on_a_model():
    cases, _ = measure_cases(
        tiny.model("gpt2"), [REQUEST, BARE], None, choose(["composite", "overall"])
    )
    assert all(0 <= cases[0][name] <= 1 for name in metric().headline)
    assert cases[1]["overall"] is None


def test_a_missing_package_brings_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MetricError, match="'composite' needs rouge-score, not installed here"):
        metric()
