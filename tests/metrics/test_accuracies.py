"""Rewrite, rephrase, locality and portability: EasyEdit's rules on answers that are given."""

from __future__ import annotations

import pytest

from lga_fast.metrics import Question, ScoredAnswer, choose
from lga_fast.records import EditRequest, Probe
from lga_fast.tokens import Row

PROBES = (
    Probe("rephrase", "rephrase", "France has the capital", "Rome"),
    Probe("rephrase", "rephrase", "The first city of France is", "an answer that is not used"),
    Probe("locality", "Relation_Specificity", "The capital of Italy is", "Rome"),
    Probe("locality", "Forgetfulness", "France lies in", "Europe"),
    Probe("locality", "Relation_Specificity", "The capital of Spain is", "Madrid"),
    Probe("portability", "Reasoning", "The river in the capital of France is", "Tiber", ("Po",)),
    Probe("portability", "Subject_Aliasing", "The capital of Gaul is", "Rome"),
    Probe("portability", "Reasoning", "Who rules the capital of France?", "Nero"),
)
REQUEST = EditRequest("a", "The capital of France is", "Rome", probes=PROBES)
BARE = EditRequest("b", "The capital of France is", "Rome")


def answered(target: str, predicted: str) -> ScoredAnswer:
    """One letter is one token."""
    ids = tuple(map(ord, "?" + target))
    return ScoredAnswer(Row(ids, 1), tuple(map(ord, predicted)), (-1.0,) * len(predicted))


def metric(name):
    return choose([name])[name]


def test_rewrite_is_the_share_of_right_tokens():
    made = metric("rewrite")
    assert made.questions(REQUEST) == [Question("The capital of France is", "Rome")]
    assert made.measure(REQUEST, [], [answered("Rome", "Rxmx")]) == {"rewrite": 0.5}


def test_rephrases_are_answered_by_the_new_answer_and_averaged_over_prompts():
    made = metric("rephrase")
    assert [q.answer for q in made.questions(REQUEST)] == ["Rome", "Rome"]
    after = [answered("Rome", "Rome"), answered("Rome", "xxme")]
    assert made.measure(REQUEST, [], after) == {"rephrase": 0.75}


def test_locality_compares_predictions_whether_right_or_wrong():
    made = metric("locality")
    assert [q.prompt for q in made.questions(REQUEST)] == [p.prompt for p in PROBES[2:5]]
    before = [answered("Rome", "Bonn"), answered("abcdef", "abcdef"), answered("ab", "xy")]
    after = [answered("Rome", "Born"), answered("abcdef", "abcxxx"), answered("ab", "xy")]
    assert made.measure(REQUEST, before, after) == {
        "locality": (0.875 + 0.5) / 2,  # over groups, not over prompts
        "locality/Relation_Specificity": (0.75 + 1) / 2,
        "locality/Forgetfulness": 0.5,
    }


def test_portability_takes_the_first_alias_and_averages_over_groups():
    made = metric("portability")
    assert [q.answer for q in made.questions(REQUEST)] == ["Tiber", "Rome", "Nero"]
    after = [answered("Tiber", "Tixxx"), answered("Rome", "Rome"), answered("Nero", "xxxx")]
    assert made.measure(REQUEST, after, after) == {
        "portability": (0.2 + 1) / 2,
        "portability/Reasoning": 0.2,
        "portability/Subject_Aliasing": 1.0,
    }


@pytest.mark.parametrize("name", ["rephrase", "locality", "portability"])
def test_without_probes_there_is_no_value(name):
    made = metric(name)
    assert made.questions(BARE) == []
    assert made.measure(BARE, [], []) == {name: None}
