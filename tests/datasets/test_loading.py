"""load_edits: names, files given to the wrong data set, limits, case ids and the report."""

from __future__ import annotations

import json

import pytest

from lga_fast import registry
from lga_fast.datasets import FINDINGS, LoadedEdits, load, load_edits
from lga_fast.errors import DataError, OptionError, UnknownName

NEWER = ["akew", "cknowedit", "editevery", "hallueditbench", "longform", "mquake", "mzsre"]
MEMBERS = ["counterfact", "jsonl", "known", "mmlu", "peak", "unke", "wikibio", "wikidata", "zsre"]
MEMBERS += [*NEWER, "rippleedits"]
FILES = [
    ("zsre", "knowedit"),
    ("zsre", "zsre_1037"),
    ("counterfact", "counterfact"),
    ("counterfact", "rome"),
    ("wikidata", "wikidata"),
    ("wikibio", "wikibio"),
    ("peak", "peak"),
    ("unke", "unke"),
    ("mmlu", "mmlu"),
    ("known", "known"),
    ("mquake", "mquake"),
    ("akew", "wikiupdate"),
    ("mzsre", "mzsre"),
    ("cknowedit", "cknowedit"),
    ("editevery", "editevery"),
    ("rippleedits", "rippleedits"),
]


def test_members_are_in_the_registry():
    assert set(MEMBERS) <= set(registry.names("lga_fast.datasets"))


@pytest.mark.parametrize("name", MEMBERS)
def test_members_keep_the_contract(name):
    member = registry.member("lga_fast.datasets", name)
    assert callable(member.read) and member.FORMS and member.__doc__
    assert "Example:" in member.read.__doc__


@pytest.mark.parametrize("loader", [name for name in MEMBERS if name != "jsonl"])
@pytest.mark.parametrize(("name", "record"), FILES)
def test_the_wrong_data_set_names_the_right_one(loader, name, record, put, make):
    path = put([getattr(make, record)()])
    if loader == name:
        assert len(load(name, path)) == 1
        return
    with pytest.raises(DataError) as caught:
        load(loader, path)
    message = str(caught.value)
    assert f"{path}: record 0: its form is none of those that {loader!r} reads." in message
    assert f"The data set {name!r} reads such records: give that name instead" in message


def test_jsonl_leaves_counterfact_alone(put, make):
    with pytest.raises(DataError, match="The data set 'counterfact' reads such records"):
        load_edits("jsonl", put([make.counterfact()]))


def test_form_that_nobody_reads(put):
    with pytest.raises(DataError) as caught:
        load_edits("zsre", put([{"src": "x", "alt": "y"}]))
    message = str(caught.value)
    assert "Its fields are alt, src." in message
    assert "1037 (alt, loc, loc_ans, rephrase, src, subject); the record lacks loc," in message
    assert "No data set reads such records; there are: " in message


def test_unknown_name():
    with pytest.raises(UnknownName, match="Did you mean 'zsre'"):
        load_edits("zsrre", "x.json")


def test_file_given_as_name(put, make):
    path = str(put([make.peak()]))
    with pytest.raises(DataError) as caught:
        load_edits(path)
    assert f"give the data set's name first: load_edits('peak', {path!r})" in str(caught.value)


def test_name_without_file():
    with pytest.raises(DataError, match="'zsre' does not come with lga_fast; give the path"):
        load_edits("zsre")


def test_records_that_are_no_edits(put, make):
    with pytest.raises(DataError, match=r"'mmlu' holds MultipleChoice records, not edits"):
        load_edits("mmlu", put([make.mmlu()]))


def test_limit_cuts_list_and_report(put, make):
    records = [make.knowedit(subject="Rome") for _ in range(5)]
    edits = load_edits("zsre", put(records), limit=2)
    assert isinstance(edits, LoadedEdits) and len(edits) == 2
    assert edits.report.records == 5
    assert [finding.record for finding in edits.report.where("subject_absent")] == [0, 1]
    dropped = edits.report.where("dropped")
    assert [finding.record for finding in dropped] == [2, 3, 4]
    assert dropped[0].detail == "over the limit of 2"
    assert len(load_edits("zsre", put(records), limit=9)) == 5


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "all"])
@pytest.mark.parametrize("source", ["no such file", [{"prompt": "no target"}]])
def test_a_limit_out_of_range_is_refused_before_anything_is_read(source, limit):
    arguments = ("zsre", source) if isinstance(source, str) else (source,)
    with pytest.raises(OptionError, match="limit: expected a whole number of at least 1, got"):
        load_edits(*arguments, limit=limit)


def test_the_last_token_of_the_prompt_may_be_the_facts(put, make):
    path = put([make.counterfact(), make.counterfact(prompt="{} is in ", subject="Rome")])
    plain, last = (
        load_edits("counterfact", path),
        load_edits("counterfact", path, fact_token="last"),
    )
    for before, request in zip(plain, last, strict=True):
        assert request.prompt == before.prompt
        assert request.subject_span == (0, len(before.prompt.rstrip()))
        assert (request.target_new, request.probes) == (before.target_new, before.probes)
    without = [{"prompt": "It is in", "target_new": "Rome"}]
    assert load_edits(without, fact_token="last")[0].subject == "It is in"
    with pytest.raises(
        OptionError, match="fact_token: expected one of 'subject_last', 'last', got"
    ):
        load_edits("counterfact", "no such file", fact_token="first")


def test_case_ids_are_unique_text(put, make):
    ids = [3, 3, None, "2", 3]
    path = put([make.counterfact(case_id=case_id) for case_id in ids])
    edits = load_edits("counterfact", path)
    assert [edit.case_id for edit in edits] == ["3", "3#2", "2", "2#2", "3#3"]
    assert [f.record for f in edits.report.where("duplicate_case_id")] == [1, 3, 4]


def test_report_for_machines_and_people(put, make):
    record = make.knowedit(locality={"Rel": []}, subject="Rome", extra=1)
    report = load_edits("zsre", put([record])).report
    plain = json.loads(json.dumps(report.to_json()))
    assert plain["unknown_field"] == {"extra": 1} and plain["unused_field"] == {"cond": 1}
    assert plain["empty_group"][0]["detail"] == "locality.Rel"
    assert "1 probe groups without items: records 0" in str(report)
    assert "extra (1)" in str(report)
    assert {finding.kind for finding in report.findings} <= FINDINGS.keys()
    with pytest.raises(KeyError):
        report.count("no_such_kind")


def test_later_record_of_another_form_names_its_field(put, make):
    with pytest.raises(DataError) as caught:
        load_edits("counterfact", put([make.counterfact(), make.knowedit()]))
    message = str(caught.value)
    assert "record 1, field 'locality_prompt': expected a value, got nothing" in message
