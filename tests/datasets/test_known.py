"""Known facts."""

from __future__ import annotations

import pytest

from lga_fast.datasets import load
from lga_fast.errors import DataError
from lga_fast.records import KnownFact


def test_known(put, make):
    facts = load("known", put([make.known(), make.known(known_id=8, subject="Rome")]))
    assert facts == [
        KnownFact("7", "Lake Orta is in", "Italy", "Lake Orta", (0, 9)),
        KnownFact("8", "Lake Orta is in", "Italy", "Rome", None),
    ]
    assert facts.report.count("subject_absent") == 1
    assert facts.report.count("unknown_field") == 0


def test_a_fact_needs_its_subject(put, make):
    with pytest.raises(DataError, match="field 'subject': expected text, got ''"):
        load("known", put([make.known(subject="")]))
