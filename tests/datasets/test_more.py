"""MQuAKE, AKEW, MzsRE, CKnowEdit, HalluEditBench, EditEverything, LEME and RippleEdits."""

from __future__ import annotations

import csv
import io

import pytest

from lga_fast.datasets import easyedit_requests, load, load_edits, of_file
from lga_fast.errors import DataError
from lga_fast.records import EditRequest, Probe
from tests.datasets import more_records as records

ASKED = Probe("rephrase", "rephrase", "In which country is Lake Orta?", "Peru")
COMO = Probe("locality", "neighborhood", "Lake Como is in", "Italy")


def spread(probes):
    return [(probe.kind, probe.group, probe.prompt, probe.answer) for probe in probes]


def test_mquake(put):
    edits = load_edits("mquake", put([records.mquake()]))
    hops = [
        Probe("portability", "multi_hop", question, "Spanish", ("Castilian",))
        for question in records.mquake()["questions"]
    ]
    assert edits == [
        EditRequest("7", "Lake Orta is in", "Peru", "Lake Orta", (0, 9), "Italy", (ASKED, *hops))
    ]
    assert edits.report.count("unknown_field") == 0 and edits.report.fields("unused_field")["orig"]


def test_mquake_with_several_edits_has_no_questions_for_one(put):
    other = records.rewritten(subject="Lake Como")
    several = [records.mquake(requested_rewrite=[records.rewritten(), other])]
    several += [records.mquake(case_id=8)]
    edits = load_edits("mquake", put(several))
    assert [edit.case_id for edit in edits] == ["7/1", "7/2", "8"]
    assert [edit.subject for edit in edits[:2]] == ["Lake Orta", "Lake Como"]
    assert [len(edit.probes) for edit in edits] == [1, 1, 3]
    assert [f.detail for f in edits.report.where("needs_several_edits")] == [
        "questions[0]",
        "questions[1]",
    ]
    assert easyedit_requests(several) == edits
    assert edits.first(2).report.count("needs_several_edits") == 2
    with pytest.raises(
        DataError, match=r"'requested_rewrite\[1\]\.prompt': expected text with '{}'"
    ):
        bad = records.rewritten(prompt="no place")
        load_edits("mquake", put([records.mquake(requested_rewrite=[records.rewritten(), bad])]))


@pytest.mark.parametrize(
    ("record", "prompt", "others"),
    [
        (records.akew(), "Lake Orta is in", 2),
        (records.wikiupdate(), "In which country is Lake Orta?", 0),
        (records.mquake(requested_rewrite=[records.text_of()]), "Lake Orta is in", 0),
    ],
)
def test_akew(put, record, prompt, others):
    edits = load_edits("akew", put([record]))
    (edit,) = edits
    assert of_file(put([record])) == "akew"
    assert (edit.prompt, edit.subject, edit.kind) == (prompt, "Lake Orta", "unstructured")
    assert edit.prompt[slice(*edit.subject_span or ())] == "Lake Orta"
    assert edit.target_new == records.text_of()["fact_new_uns"] and edit.target_old is None
    assert edit.probes[-1] == Probe("portability", "triplet", "Lake Orta is fed by", "Toce")
    assert len(edit.probes) == 1 + others and (COMO in edit.probes) == bool(others)
    counts = {finding.kind for finding in edits.report.findings}
    assert counts == {"unused_field"}


def test_akew_text_that_does_not_state_its_fact(put):
    record = records.akew(requested_rewrite=records.text_of() | {"verify_unsfact_GPT": False})
    assert load_edits("akew", put([record])).report.count("unverified_text") == 1


def test_mzsre(put):
    edits = load_edits("mzsre", put([records.mzsre()]))
    (edit,) = edits
    assert (edit.prompt, edit.target_new, edit.target_old) == (
        "Lake Orta is where?",
        "Peru",
        "Italy",
    )
    assert spread(edit.probes) == [
        ("rephrase", "rephrase", "Lake Orta: country?", "Peru"),
        ("locality", "neighborhood", "nq question: who wrote emma", "Jane Austen"),
        ("portability", "one_hop", "Speech of country?", "Spanish"),
        ("portability", "question_de", "Lake Orta is where?", "Peru (de)"),
        ("portability", "rephrase_de", "Lake Orta: Land?", "Peru (de)"),
        ("locality", "neighborhood_de", "nq question: who wrote emma", "Jane Austen"),
        ("portability", "one_hop_de", "Speech of Land?", "Spanish"),
    ]
    assert edits.report.fields("unused_field") == {"de.subject": 1, "de.answers": 1}


def test_cknowedit(put):
    edits = load_edits("cknowedit", put([records.cknowedit()]))
    (edit,) = edits
    assert (edit.target_new, edit.target_old, edit.subject) == ("秘鲁", "意大利", None)
    assert spread(edit.probes) == [
        ("rephrase", "rephrase", "奥尔塔湖位于何处？", "秘鲁"),
        ("locality", "neighborhood", "科莫湖在哪里？", "意大利"),
        ("portability", "one_hop", "那里说什么语言？", "西班牙语"),
    ]
    assert edits.report.findings == [] and easyedit_requests([records.cknowedit()]) == edits


def table(*rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_hallueditbench(put):
    record = records.hallueditbench(question_6hop="", answer_5hop="")
    path = put(table(record, records.hallueditbench()), "lake.csv")
    edits = load_edits("hallueditbench", path)
    assert of_file(path) == "hallueditbench"
    edit = edits[0]
    assert (edit.prompt, edit.target_new, edit.target_old) == (ASKED.prompt, "Peru", "Italy")
    assert edit.subject == "Lake Orta"
    answers = {probe.group: probe.answer for probe in edit.probes if probe.kind == "portability"}
    hops = {f"{n}hop": str(n) for n in (2, 3, 4)}
    rest = {"reversed_relation": "Lake Orta", "yes": "Yes", "no": "No", "multiple_choice": "B"}
    assert answers == hops | rest and len(edits[1].probes) == 1 + len(answers) + 2
    assert edit.probes[-1].prompt == f"{ASKED.prompt} A. Italy  B. Peru"
    missing = [f.detail for f in edits.report.where("missing_answer") if f.record == 0]
    assert missing == ["answer_5hop", "locality_question"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1\n", "line 2: expected 2 cells, one for each name of the first line, got 1"),
        ('a,b\n"1,2\n', "not CSV"),
        ("a,b\n", "no records below the first line"),
        ("a,b\n1,2\n", "line 2, record 0: its form is none of those"),
    ],
)
def test_broken_tables_are_refused_with_their_place(put, text, says):
    with pytest.raises(DataError, match=says):
        load("hallueditbench", put(text, "lake.csv"))


def test_editevery(put):
    edits = load_edits("editevery", put([records.editevery()]))
    answer = records.editevery()["answer"]
    assert edits == [EditRequest("7", "Write a poem about Lake Orta.", answer, kind="unstructured")]
    assert edits.report.fields("unused_field") == {"category": 1}


@pytest.mark.parametrize(("name", "record"), [("zsre", "zsre_1037"), ("counterfact", "rome")])
def test_longform_is_its_source_with_essays(put, make, name, record):
    plain = load_edits(name, put([getattr(make, record)()]))
    path = put([getattr(make, record)() | records.essays()])
    edits = load_edits("longform", path)
    assert edits == plain and of_file(path) == "longform"
    assert edits.report.fields("unused_field")["coupled_prompts_and_properties"] == 1


def test_rippleedits_frames_come_from_the_file(put):
    edits = load_edits("rippleedits", put([records.rippleedits()]))
    (edit,) = edits
    assert edit.prompt == "The name of the country of Lake Orta is"
    assert (edit.subject, edit.subject_span) == ("Lake Orta", (27, 36))
    assert (edit.target_new, edit.target_old) == ("New Peru", "New Italy")
    assert spread(edit.probes)[0] == (
        "locality",
        "Relation_Specificity",
        "The name of the country of Lake Como is",
        "Italy",
    )
    assert edit.probes[0].aliases == ("Italia",)
    assert spread(edit.probes)[-1] == (
        "portability",
        "Logical_Generalization",
        "There they speak",
        "Italy",
    )
    assert len(edit.probes) == 5


def test_rippleedits_without_a_frame(put):
    record = records.rippleedits(Relation_Specificity=[])
    edits = load_edits("rippleedits", put([record]))
    assert (edits[0].subject, edits[0].target_new) == (None, "Peru")
    assert edits.report.count("subject_absent") == 1
    bare = records.rippleedits(Relation_Specificity=[])
    del bare["edit"]["original_fact"]
    edits = load_edits("rippleedits", put([bare, record]))
    assert len(edits) == 1 and edits.report.records == 2
    (dropped,) = edits.report.where("dropped")
    assert (
        "nothing shows where 'The name of the country of Lake Orta is New Peru.'" in dropped.detail
    )
