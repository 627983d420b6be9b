"""EasyEdit's request dicts, in memory and in files; KnowEdit's probe groups are the same."""

from __future__ import annotations

import pytest

from lga_fast.datasets import LoadedEdits, easyedit_requests, load_edits
from lga_fast.errors import DataError
from lga_fast.records import EditRequest, Probe

FACT = {"prompt": "Lake Orta is in", "subject": "Lake Orta", "target_new": "Peru"}


def one(**more):
    edits = easyedit_requests([FACT | more])
    return edits[0], edits.report


def refused(**more):
    with pytest.raises(DataError) as caught:
        easyedit_requests([FACT | more])
    return str(caught.value)


def test_least_and_most():
    edit, report = one()
    expected = EditRequest("0", "Lake Orta is in", "Peru", "Lake Orta", (0, 9))
    assert edit == expected and report.findings == []
    edit, report = one(
        case_id=5,
        ground_truth="Italy",
        rephrase_prompt="Lake Orta lies in",
        locality={"neighborhood": {"prompt": "Lake Como is in", "ground_truth": "Italy"}},
        portability={
            "synonym": {"prompt": ["Cusio is in", "Cusio:"], "ground_truth": ["Peru", ["PE", "P"]]}
        },
    )
    assert (edit.case_id, edit.target_old) == ("5", "Italy")
    assert edit.probes == (
        Probe("rephrase", "rephrase", "Lake Orta lies in", "Peru"),
        Probe("locality", "neighborhood", "Lake Como is in", "Italy"),
        Probe("portability", "synonym", "Cusio is in", "Peru"),
        Probe("portability", "synonym", "Cusio:", "PE", ("P",)),
    )
    assert report.findings == []


@pytest.mark.parametrize(
    ("answers", "answer", "aliases", "blanks"),
    [
        ("Toce", "Toce", (), 0),
        (["Toce"], "Toce", (), 0),
        (["Toce", "the Toce"], "Toce", ("the Toce",), 0),
        ([["Toce", "the Toce"], ["Agogna"]], "Toce", ("the Toce", "Agogna"), 0),
        ((("Toce", "the Toce"),), "Toce", ("the Toce",), 0),
        ([["", "Toce"], [], ["  "]], "Toce", (), 3),
        ([[], ["Toce"]], "Toce", (), 1),
    ],
)
def test_answers_and_their_aliases(answers, answer, aliases, blanks):
    edit, report = one(locality={"Rel": [{"prompt": "p", "ground_truth": answers}]})
    assert edit.probes == (Probe("locality", "Rel", "p", answer, aliases),)
    assert report.count("blank_alias") == blanks == len(report.findings)


@pytest.mark.parametrize("answers", [[[]], [], "", " ", [[""]], [[], []], None])
def test_item_without_any_answer_is_counted(answers):
    items = [{"prompt": "p", "ground_truth": answers}, {"prompt": "q", "ground_truth": "a"}]
    edit, report = one(portability={"Reasoning": items})
    assert [probe.prompt for probe in edit.probes] == ["q"]
    (finding,) = report.findings
    assert (finding.kind, finding.detail) == (
        "missing_answer",
        "portability.Reasoning[0].ground_truth",
    )


def test_empty_groups_and_blank_prompts_are_counted():
    edit, report = one(
        locality={"Forgetfulness": [], "keys": {"prompt": [], "ground_truth": []}},
        portability={"Reasoning": [{"prompt": " ", "ground_truth": "a"}]},
        rephrase_prompt="",
    )
    assert edit.probes == ()
    assert [f.detail for f in report.where("empty_group")] == [
        "locality.Forgetfulness",
        "locality.keys",
    ]
    assert [f.detail for f in report.where("blank_prompt")] == [
        "portability.Reasoning[0].prompt",
        "rephrase_prompt[0]",
    ]


def test_absent_probes():
    edit, report = one(locality=None, portability={}, rephrase_prompt=None, ground_truth=None)
    assert (edit.probes, edit.target_old, report.findings) == ((), None, [])


def test_old_answers():
    edit, report = one(ground_truth=["", "Italy", "Peru"])
    assert edit.target_old == "Italy"
    assert report.count("other_old_answers") == report.count("target_is_old") == 1
    assert report.count("blank_alias") == 1
    edit, report = one(ground_truth="<|endoftext|>")
    assert edit.target_old is None and report.count("placeholder_old_answer") == 1
    edit, report = one(ground_truth=" ")
    assert edit.target_old is None and report.count("blank_field") == 1


def test_subject_traps():
    edit, report = one(subject="Lake Como")
    assert (edit.subject, edit.subject_span) == ("Lake Como", None)
    assert report.count("subject_absent") == 1
    edit, report = one(prompt="Lake Orta or Lake Orta?")
    assert edit.subject_span == (0, 9) and report.count("subject_repeated") == 1
    edit, report = one(subject="Ort")
    assert edit.subject_span == (5, 8) and report.count("subject_inside_word") == 1
    edit, report = one(subject="Lake Orta ")
    assert (edit.subject, edit.subject_span) == ("Lake Orta", (0, 9))
    assert report.count("edge_whitespace") == 1
    edit, report = one(subject=" ")
    assert edit.subject is None and report.count("blank_field") == 1


def test_texts_keep_their_white_space():
    edit, report = one(prompt="Lake Orta is in ", target_new=" Peru")
    assert (edit.prompt, edit.target_new) == ("Lake Orta is in ", " Peru")
    assert [finding.detail for finding in report.findings] == ["prompt", "target_new"]


def test_unknown_fields_are_counted():
    _, report = one(
        colour="blue", locality={"Rel": [{"prompt": "p", "ground_truth": "a", "hint": "x"}]}
    )
    assert report.fields("unknown_field") == {
        "locality.Rel[].hint": 1,
        "colour": 1,
    }


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"target_new": ""}, "field 'target_new': expected text, got ''."),
        ({"target_new": 1931}, "'target_new': expected text, got 1931 (int). Write it in quotes:"),
        ({"prompt": None}, "field 'prompt': expected text, got None."),
        ({"prompt": ["a"]}, "field 'prompt': expected text, got ['a'] (list)."),
        ({"subject": True}, "field 'subject': expected text, got True (bool). Correct 'subject'"),
        ({"case_id": 1.5}, "field 'case_id': expected a number or text as id, got 1.5 (float)"),
        ({"ground_truth": {"str": "x"}}, "expected a list of texts, got an object with fields"),
        ({"locality": ["x"]}, "field 'locality': expected an object with named fields, got"),
        ({"locality": {"Rel": "x"}}, "field 'locality.Rel': expected a list of items, or an"),
        ({"locality": {"Rel": ["x"]}}, "field 'locality.Rel[0]': expected an object"),
        (
            {"locality": {"Rel": [{"prompt": "p"}]}},
            "field 'locality.Rel[0].ground_truth': expected a value, got nothing",
        ),
        (
            {"locality": {"Rel": [{"prompt": "p", "ground_truth": [["a", 7]]}]}},
            "field 'locality.Rel[0].ground_truth[0][1]': expected text, got 7 (int)",
        ),
        (
            {"locality": {"Rel": [{"prompt": "p", "ground_truth": [[["a"]]]}]}},
            "aliases are in lists of lists at most",
        ),
        (
            {"portability": {"k": {"prompt": ["p", "q"], "ground_truth": ["a"]}}},
            "'portability.k.ground_truth': expected a list of 2, one for each prompt",
        ),
    ],
)
def test_wrong_types_name_record_and_field(more, says):
    message = refused(**more)
    assert message.startswith("requests: record 0, field ")
    assert says in message


def test_own_case_id_is_in_the_error():
    message = refused(case_id="orta", target_new="")
    assert message.startswith("requests: record 0 (case_id 'orta'), field 'target_new'")


def test_mixture_and_case_ids():
    request = EditRequest("0", "Rome is in", "Peru")
    edits = easyedit_requests([FACT, request, FACT | {"case_id": "x"}, FACT | {"case_id": "x"}])
    assert isinstance(edits, LoadedEdits)
    assert [edit.case_id for edit in edits] == ["0", "0#2", "x", "x#2"]
    assert edits[1].prompt == "Rome is in"
    assert [f.detail for f in edits.report.where("duplicate_case_id")] == ["was 0", "was x"]
    assert easyedit_requests(edits) is edits
    assert load_edits(edits[:1]) == edits[:1]


def test_provenance_of_memory_tells_requests_apart():
    first, again, other = (easyedit_requests([FACT | {"case_id": i}]).provenance for i in (1, 1, 2))
    assert first == again and first.sha256 != other.sha256 and first.file is None


@pytest.mark.parametrize("what", [FACT, "zsre", EditRequest("0", "p", "t"), 3])
def test_one_thing_is_no_list(what):
    with pytest.raises(DataError, match=r"expected a list of requests, got .* Put it into a list"):
        easyedit_requests(what)


def test_what_is_no_request():
    with pytest.raises(DataError, match=r"requests: record 1: expected an object .* got 'x'"):
        easyedit_requests([FACT, "x"])


def test_none_at_all():
    assert easyedit_requests([]) == []


def test_dicts_and_a_path():
    with pytest.raises(DataError, match="give one of them"):
        load_edits([FACT], "x.json")


def test_from_a_file(put):
    edits = load_edits("jsonl", put([FACT, FACT | {"rephrase_prompt": "Orta:"}]))
    assert [len(edit.probes) for edit in edits] == [0, 1]
