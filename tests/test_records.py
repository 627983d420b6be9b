"""Requests refuse what no method could use; scores are cut and put together by request."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from lga_fast.errors import DataError
from lga_fast.layer_scores import LayerScores
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


def test_scores_are_cut_and_put_together_by_request():
    """Every field with a request axis follows, also one that is added later."""
    by_request, by_parameter = {}, {}
    for i, one in enumerate(fields(LayerScores)):
        if "request" in str(one.type):
            rows = np.arange(5) + 10 * i
            if str(one.type).startswith("dict"):
                by_parameter[one.name] = {"up.weight": np.stack([rows, -rows], 1)}
            else:
                by_request[one.name] = rows
    ids = tuple("abcde")
    scores = LayerScores(case_ids=ids, edited="down", **by_request, **by_parameter)
    cut = [scores.take([3, 0]), scores.take([]), scores.take([4, 2, 1])]
    back = LayerScores.concatenate(cut).take([1, 4, 3, 0, 2])
    assert cut[0].case_ids == ("d", "a") and cut[1].case_ids == () and back.case_ids == ids
    for name, column in by_request.items():
        assert (getattr(cut[0], name) == column[[3, 0]]).all()
        assert (getattr(back, name) == column).all()
    for name, table in by_parameter.items():
        assert (getattr(cut[0], name)["up.weight"] == table["up.weight"][[3, 0]]).all()
        assert (getattr(back, name)["up.weight"] == table["up.weight"]).all()
