"""PEAK: one request per question, with its answer lists."""

from __future__ import annotations

import pytest

from lga_fast.datasets import load_edits
from lga_fast.errors import DataError
from lga_fast.records import AnswerLists, EditRequest, Probe


def test_peak(put, make):
    edits = load_edits("peak", put([make.peak()]))
    assert edits == [
        EditRequest(
            case_id="7",
            prompt="The shores of Lake Orta touch",
            target_new="Peru",
            subject="Lake Orta",
            subject_span=(14, 23),
            target_old="Italy",
            probes=(
                Probe("rephrase", "rephrase", "Lake Orta borders", "Peru"),
                Probe("locality", "neighborhood", "Lake Como touches", "Italy"),
            ),
            answers=AnswerLists(("Italy", "Novara"), ("Spain", "Novara"), ("Emma",)),
            kind="composite",
        )
    ]
    assert [finding.detail for finding in edits.report.where("right_and_wrong")] == ["Novara"]


def test_odd_answers_are_counted(put, make):
    record = make.peak(postive_list=["Italy", "", "Peru"], negtive_list=[])
    edits = load_edits("peak", put([record]))
    assert edits[0].answers == AnswerLists(("Italy", "Peru"), (), ("Emma",))
    assert edits.report.count("blank_alias") == edits.report.count("target_among_right") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"neighborhood_prompts": [["a"]]}, r"'neighborhood_prompts\[0\]': expected a pair"),
        ({"neighborhood_prompts": "a"}, r"expected a list of \[prompt, answer\] pairs"),
        ({"negtive_list": [1]}, r"'negtive_list\[0\]': expected text, got 1 \(int\)"),
    ],
)
def test_wrong_types(put, make, changes, says):
    with pytest.raises(DataError, match=says):
        load_edits("peak", put([make.peak(**changes)]))
