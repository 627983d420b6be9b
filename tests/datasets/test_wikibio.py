"""WikiBio."""

from __future__ import annotations

from lga_fast.datasets import load_edits
from lga_fast.records import EditRequest, Probe


def test_wikibio(put, make):
    edits = load_edits("wikibio", put([make.wikibio()]))
    assert edits == [
        EditRequest(
            case_id="0",
            prompt="This is a passage about ada pond. Ada Pond was a swimmer. ",
            target_new="She swam across Lake Orta in 1931.",
            subject="ada pond",
            subject_span=(24, 32),
            probes=(Probe("locality", "Relation_Specificity", "ada pond was born in", "Rome"),),
        )
    ]
    assert [finding.kind for finding in edits.report.findings] == ["edge_whitespace"]
