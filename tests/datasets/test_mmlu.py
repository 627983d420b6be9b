"""MMLU."""

from __future__ import annotations

import json

import pytest

from lga_fast.datasets import load
from lga_fast.errors import DataError
from lga_fast.records import MultipleChoice


def test_mmlu(put, make):
    lines = "".join(json.dumps(make.mmlu(answer=i)) + "\n" for i in range(2))
    questions = load("mmlu", put(lines, "m.jsonl"))
    choices = ("Orta", "Rome", "Ada", "Emma")
    assert questions == [
        MultipleChoice(str(i), "Which is a lake?", choices, i, "geography") for i in range(2)
    ]
    assert questions.report.findings == []


def test_same_choice_twice(put, make):
    questions = load("mmlu", put([make.mmlu(choices=["a", "a"])]))
    assert questions.report.count("repeated_choice") == 1


@pytest.mark.parametrize("answer", [4, -1, "A", True, None])
def test_answer_is_the_number_of_a_choice(put, make, answer):
    with pytest.raises(DataError) as caught:
        load("mmlu", put(json.dumps(make.mmlu(answer=answer)), "m.jsonl"))
    message = str(caught.value)
    assert "m.jsonl: line 1, record 0, field 'answer': expected the number of a choice" in message
    assert "letters are not read" in message


@pytest.mark.parametrize("choices", [["a"], ["a", " "], ["a", 2]])
def test_choices_are_texts(put, make, choices):
    with pytest.raises(DataError, match="field 'choices"):
        load("mmlu", put([make.mmlu(choices=choices)]))
