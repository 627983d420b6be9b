"""Requests refuse what no method could use."""

from __future__ import annotations

import pytest

from lga_fast.errors import DataError
from lga_fast.records import EditRequest, find_subject


@pytest.mark.parametrize("field", ["case_id", "prompt", "target_new"])
@pytest.mark.parametrize("value", ["", "  ", None, 3])
def test_blank_fields_are_refused(field, value):
    good = {"case_id": "1", "prompt": "Paris lies in", "target_new": "Italy"}
    with pytest.raises(DataError, match=f"{field} must be a non-empty string, got"):
        EditRequest(**good | {field: value})


@pytest.mark.parametrize(("subject", "span"), [("Rome", (0, 4)), (None, (0, 5)), ("Paris", (1, 6))])
def test_a_span_must_cut_the_subject_out(subject, span):
    with pytest.raises(DataError, match="out of the prompt, expected"):
        EditRequest("1", "Paris lies in", "Italy", subject, span)


def test_find_subject_takes_the_first_place():
    assert find_subject("Paris, Paris", "Paris") == (0, 5)
    assert find_subject("Paris", "Rome") is find_subject("Paris", None) is None
