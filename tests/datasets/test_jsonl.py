"""Edit requests as JSON Lines: exact there and back, and refusals."""

from __future__ import annotations

import json

import pytest

from lga_fast.datasets import load_edits, write_jsonl
from lga_fast.errors import DataError
from lga_fast.records import AnswerLists, EditRequest, Probe

ODD = [
    EditRequest("a", "Lake Orta is in", "Peru"),
    EditRequest(" b ", " Lake Orta\u2028is\nin ", " Perú 🏔", "Lake Orta", (1, 10), "Italy"),
    EditRequest("c", "Orta or Orta", "x", "Orta", (8, 12), ""),
    EditRequest("d", "Orta or Orta", "x", "Orta ", None),
    EditRequest("e", '{} \\ "q" é', "x", "é", (9, 10)),
    EditRequest(
        "f",
        "p",
        "t",
        probes=(
            Probe("rephrase", "rephrase", "r", "t"),
            Probe("locality", "Rel", " l ", "a", ("b", "")),
        ),
        answers=AnswerLists(("r",), (), ("u",)),
    ),
    EditRequest("g", "p", "t", answers=AnswerLists(("r",), ("w",))),
]


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.txt"])
def test_there_and_back(tmp_path, name):
    path = tmp_path / name
    write_jsonl(ODD, path)
    edits = load_edits("jsonl", path)
    assert edits == ODD
    assert {finding.kind for finding in edits.report.findings} == {"edge_whitespace"}
    assert len(path.read_bytes().decode().split("\n")) == len(ODD) + 1


def test_one_request_and_a_list(put, tmp_path):
    write_jsonl(ODD[:1], tmp_path / "one.jsonl")
    assert load_edits("jsonl", tmp_path / "one.jsonl") == ODD[:1]
    rows = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert load_edits("jsonl", put(json.dumps(rows, indent=2))) == ODD[:1]


def test_same_file_from_every_writer(tmp_path):
    for name in ("a", "b"):
        write_jsonl(iter(ODD), str(tmp_path / name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_made_by_hand(put):
    text = '{"prompt": "Orta is in", "target_new": "Peru", "subject": "Orta"}\n'
    (edit,) = load_edits("jsonl", put(text + "\n", "x.jsonl"))
    assert edit == EditRequest("0", "Orta is in", "Peru", "Orta", (0, 4))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"subject_span": [0, 3]}, "expected [start, end) of the subject 'Orta' in the prompt"),
        ({"subject_span": [-10, -6]}, "expected [start, end)"),
        ({"subject_span": "0-4"}, "got '0-4'. Or leave the field out."),
        ({"probes": {}}, "field 'probes': expected a list of probes"),
        ({"probes": [{"kind": "local"}]}, "'probes[0].kind': expected one of rephrase, locality"),
        ({"probes": [{"kind": "locality", "prompt": "p", "answer": ""}]}, "'probes[0].answer'"),
        ({"answers": {"right": ["a"]}}, "'answers.wrong': expected a value"),
    ],
)
def test_refusals_name_line_and_field(put, more, says):
    row = {"prompt": "Orta is in", "target_new": "Peru", "subject": "Orta"} | more
    with pytest.raises(DataError) as caught:
        load_edits("jsonl", put(json.dumps(row), "x.jsonl"))
    assert "x.jsonl: line 1, record 0, field " in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (EditRequest("a", "p\ud83d", "t"), "request 0 (case_id 'a'), field 'prompt'"),
        (
            EditRequest("a", "p", "t", probes=(Probe("locality", "g", "", "x"),)),
            "field 'probes[0].prompt': expected text, got ''",
        ),
    ],
)
def test_nothing_is_written_that_cannot_be_read(tmp_path, request_, says):
    path = tmp_path / "x.jsonl"
    with pytest.raises(DataError) as caught:
        write_jsonl([request_], path)
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_unknown_fields_are_counted(put):
    row = {"prompt": "p", "target_new": "t", "probes": [], "note": "x"}
    assert load_edits("jsonl", put([row])).report.fields("unknown_field") == {"note": 1}
