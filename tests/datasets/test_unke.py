"""UnKE."""

from __future__ import annotations

import pytest

from lga_fast.datasets import load_edits
from lga_fast.errors import DataError
from lga_fast.records import EditRequest, Probe


def test_unke(put, make):
    answer = "Ada Pond was a swimmer. She crossed Lake Orta in 1931."
    edits = load_edits("unke", put([make.unke()]))
    assert edits == [
        EditRequest(
            case_id="7",
            prompt="Who was Ada Pond?",
            target_new=answer,
            probes=(
                Probe("rephrase", "rephrase", "What did Ada Pond do?", answer),
                Probe("portability", "sub_question", "What was she?", "A swimmer."),
                Probe("portability", "sub_question", "When did she cross?", "1931."),
            ),
            kind="unstructured",
        )
    ]
    assert edits.report.findings == []


def test_as_many_answers_as_questions(put, make):
    with pytest.raises(DataError) as caught:
        load_edits("unke", put([make.unke(sub_answer=["A swimmer."])]))
    message = str(caught.value)
    assert "field 'sub_answer': expected 2 answers, one for each sub_question" in message
    assert "There are 1; add or remove some." in message
