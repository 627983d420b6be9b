"""ZsRE in KnowEdit's form and in the 1037 form."""

from __future__ import annotations

from lga_fast.datasets import load_edits
from lga_fast.records import EditRequest, Probe


def test_knowedit(put, make):
    edits = load_edits("zsre", put([make.knowedit()]))
    assert edits == [
        EditRequest(
            case_id="0",
            prompt="The country of Lake Orta is",
            target_new="Peru",
            subject="Lake Orta",
            subject_span=(15, 24),
            target_old="Italy",
            probes=(
                Probe("rephrase", "rephrase", "Lake Orta lies in", "Peru"),
                Probe("locality", "Relation_Specificity", "Lake Orta drains into", "Toce"),
                Probe("portability", "Reasoning", "Around Lake Orta people speak", "Spanish"),
            ),
        )
    ]
    assert edits.report.fields("unused_field") == {"cond": 1}
    assert edits.provenance.form == "KnowEdit"


def test_1037(put, make):
    edits = load_edits("zsre", put([make.zsre_1037()]))
    (edit,) = edits
    assert (edit.prompt, edit.target_new) == ("In which country is Lake Orta?", "Peru")
    assert (edit.target_old, edit.subject_span) == ("Italy", (20, 29))
    assert edit.probes == (
        Probe("rephrase", "rephrase", "Where is Lake Orta?", "Peru"),
        Probe("locality", "neighborhood", "nq question: who wrote emma", "Jane Austen"),
        Probe("portability", "one_hop", "What do people speak around Lake Orta?", "Spanish"),
    )
    assert edits.report.count("other_old_answers") == 1
    assert edits.report.fields("unused_field") == {
        "portability.Recalled Relation": 1,
        "pred": 1,
        "cond": 1,
    }


def test_1037_before_portability_was_added(put, make):
    record = make.zsre_1037()
    del record["portability"]
    (edit,) = load_edits("zsre", put([record]))
    assert [probe.kind for probe in edit.probes] == ["rephrase", "locality"]


def test_braces_in_the_prompt_are_text(put, make):
    (edit,) = load_edits("zsre", put([make.knowedit(prompt="{} {x} Lake Orta {0}")]))
    assert (edit.prompt, edit.subject_span) == ("{} {x} Lake Orta {0}", (7, 16))
