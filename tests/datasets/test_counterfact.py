"""CounterFact in EasyEdit's form and in ROME's."""

from __future__ import annotations

import pytest

from lga_fast.datasets import load_edits
from lga_fast.errors import DataError
from lga_fast.records import EditRequest, Probe


def test_easyedit_form(put, make):
    edits = load_edits("counterfact", put([make.counterfact()]))
    assert edits == [
        EditRequest(
            case_id="7",
            prompt="Lake Orta is in",
            target_new="Peru",
            subject="Lake Orta",
            subject_span=(0, 9),
            target_old="Italy",
            probes=(
                Probe("rephrase", "rephrase", "A boat on Lake Orta is in", "Peru"),
                Probe("locality", "neighborhood", "Lake Como is in", "Italy"),
            ),
        )
    ]
    assert edits.report.findings == []


def test_rome_form(put, make):
    hop = {
        "Recalled Relation": "(Peru, language, Spanish)",
        "New Question": "What is spoken around Lake Orta?",
        "New Answer": "Spanish",
    }
    edits = load_edits("counterfact", put([make.rome(portability=hop)]))
    (edit,) = edits
    assert (edit.prompt, edit.subject_span, edit.target_old) == ("Lake Orta is in", (0, 9), "Italy")
    assert edit.probes == (
        Probe("rephrase", "rephrase", "A boat. Lake Orta is in", "Peru"),
        Probe("rephrase", "rephrase", "Rain. Lake Orta lies in", "Peru"),
        Probe("locality", "neighborhood", "Lake Como is in", "Italy"),
        Probe("locality", "neighborhood", "Lake Garda is in", "Italy"),
        Probe("portability", "one_hop", "What is spoken around Lake Orta?", "Spanish"),
    )
    assert edits.report.count("unknown_field") == 0
    assert "attribute_prompts" in edits.report.fields("unused_field")
    (edit,) = load_edits("counterfact", put([make.rome()]))
    assert {probe.kind for probe in edit.probes} == {"rephrase", "locality"}


@pytest.mark.parametrize(
    ("prompt", "subject", "text", "span"),
    [
        ("Of {x} and {0}, {} is", "Orta", "Of {x} and {0}, Orta is", (16, 20)),
        ("Orta, that is {}, is in", "Orta", "Orta, that is Orta, is in", (14, 18)),
        ("The set {} is", "{}", "The set {} is", (8, 10)),
        ("In {}", "{0} Orta {}", "In {0} Orta {}", (3, 14)),
    ],
)
def test_subject_goes_where_the_braces_are(put, make, prompt, subject, text, span):
    record = make.rome(requested_rewrite=make.rewrite(prompt, subject))
    edits = load_edits("counterfact", put([record]))
    assert (edits[0].prompt, edits[0].subject_span) == (text, span)
    assert edits[0].subject == subject
    assert edits.report.count("subject_repeated") == (text.count(subject) > 1)


@pytest.mark.parametrize("prompt", ["Lake Orta is in", "{} and {}", "{0} is in"])
def test_one_place_for_the_subject(put, make, prompt):
    record = make.rome(requested_rewrite=make.rewrite(prompt))
    with pytest.raises(DataError) as caught:
        load_edits("counterfact", put([record]))
    message = str(caught.value)
    assert "record 0 (case_id '7'), field 'requested_rewrite.prompt': expected text with" in message
    assert repr(prompt) in message


def test_wrong_types(put, make):
    record = make.rome()
    record["requested_rewrite"]["target_new"] = "Peru"
    with pytest.raises(DataError, match=r"'requested_rewrite\.target_new': expected an object"):
        load_edits("counterfact", put([record]))
    with pytest.raises(DataError, match=r"field 'neighborhood_prompts\[1\]': expected text"):
        load_edits("counterfact", put([make.rome(neighborhood_prompts=["a", 3])]))
    with pytest.raises(DataError, match=r"'portability\.New Answer': expected a value, got noth"):
        load_edits("counterfact", put([make.rome(portability={"New Question": "q"})]))


def test_edges_and_same_target(put, make):
    rewrite = make.rewrite(subject=" Lake Orta") | {"target_true": {"str": "Peru"}}
    edits = load_edits("counterfact", put([make.rome(requested_rewrite=rewrite)]))
    assert edits[0].subject == "Lake Orta" and edits[0].prompt == "Lake Orta is in"
    assert edits.report.count("edge_whitespace") == edits.report.count("target_is_old") == 1
