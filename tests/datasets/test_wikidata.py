"""WikiData_counterfact and WikiData_recent."""

from __future__ import annotations

from lga_fast.datasets import load_edits
from lga_fast.records import Probe


def test_counterfact(put, make):
    edits = load_edits("wikidata", put([make.wikidata()]))
    assert edits.provenance.form == "counterfact"
    assert edits[0].target_old == "Italy"
    assert edits[0].probes == (
        Probe("locality", "Relation_Specificity", "Lake Orta drains into", "Toce", ("river Toce",)),
        Probe("locality", "Forgetfulness", "Not Peru but", "Italy", ("Italia",)),
        Probe("portability", "Reasoning", "Around Lake Orta people speak", "Spanish"),
    )
    assert edits.report.findings == []


def test_recent(put, make):
    record = make.wikidata(locality={}, portability={"Reasoning": [], "Subject_Aliasing": []})
    del record["ground_truth"]
    edits = load_edits("wikidata", put([record]))
    assert edits.provenance.form == "recent"
    assert (edits[0].target_old, edits[0].probes) == (None, ())
    assert edits.report.count("empty_group") == 2


def test_items_without_answers(put, make):
    items = [{"prompt": "a", "ground_truth": [[]]}, {"prompt": "b", "ground_truth": [[], ["c"]]}]
    edits = load_edits("wikidata", put([make.wikidata(portability={"Reasoning": items})]))
    assert edits[0].probes[-1] == Probe("portability", "Reasoning", "b", "c")
    assert edits.report.count("missing_answer") == edits.report.count("blank_alias") == 1
