"""The one door for requests in memory: spellings, columns, dataset objects, templates, types."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast import score_layers
from lga_fast.datasets import easyedit_requests, load_edits
from lga_fast.errors import DataError
from lga_fast.records import EditRequest, Probe

FACT = {"prompt": "Lake Orta is in", "subject": "Lake Orta", "target_new": "Peru"}
NEAR = Probe("locality", "neighborhood", "Lake Como is in", "Italy")
HOP = Probe("portability", "one_hop", "Around Lake Orta people speak", "Spanish")
PAIR = {"prompt": NEAR.prompt, "ground_truth": "Italy"}


@pytest.mark.parametrize(
    ("more", "probes"),
    [
        ({"locality_prompt": NEAR.prompt, "locality_ground_truth": "Italy"}, [NEAR]),
        ({"locality_prompt": [NEAR.prompt], "locality_ground_truth": [["Italy"]]}, [NEAR]),
        ({"portability_prompt": HOP.prompt, "portability_ground_truth": "Spanish"}, [HOP]),
        ({"portability": {"New Question": HOP.prompt, "New Answer": "Spanish"}}, [HOP]),
        ({"locality": PAIR}, [NEAR]),
        ({"locality_inputs": {"neighborhood": PAIR}}, [NEAR]),
        ({"locality": [{"prompt": NEAR.prompt, "answer": "Italy"}]}, [NEAR]),
        ({"rephrase": ["Orta:"]}, [Probe("rephrase", "rephrase", "Orta:", "Peru")]),
        ({"rephrase_prompts": ["Orta:"]}, [Probe("rephrase", "rephrase", "Orta:", "Peru")]),
        (
            {"locality_rs": [PAIR], "locality_f": None, "portability_r": None},
            [Probe("locality", "Relation_Specificity", NEAR.prompt, "Italy")],
        ),
        ({"probes": [vars(HOP)], "locality": PAIR, "target_old": "Italy"}, [HOP, NEAR]),
    ],
)
def test_every_spelling_of_probes_is_read(more, probes):
    edits = easyedit_requests([FACT | more])
    assert list(edits[0].probes) == probes
    assert edits.report.findings == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"locality_prompt": "p"}, "field 'locality_ground_truth': expected a value, got nothing"),
        (
            {"locality_prompts": ["p"]},
            "field 'locality_prompts': expected no such field, got ['p']",
        ),
        (
            {"rephrase_prompt": "p", "rephrase_prompts": "q"},
            "nothing beside 'rephrase_prompt', its",
        ),
        ({"ground_truth": "a", "target_old": "b"}, "'ground_truth': expected nothing beside"),
    ],
)
def test_probes_never_vanish(more, says):
    with pytest.raises(DataError) as caught:
        easyedit_requests([FACT | more])
    assert "requests: record 0, field " in str(caught.value) and says in str(caught.value)


def test_columns_are_the_requests_one_by_one():
    columns = {
        "prompts": ["{} is in", "Lake Como is in"],
        "subject": ["Lake Orta", "Lake Como"],
        "target_new": ["Peru", "Chad"],
        "ground_truth": None,
        "rephrase_prompts": [None, "Como:"],
        "locality_inputs": {"neighborhood": {"prompt": ["p", None], "ground_truth": ["q", None]}},
    }
    edits = load_edits(columns)
    assert edits == easyedit_requests(
        [
            FACT | {"locality": {"neighborhood": {"prompt": "p", "ground_truth": "q"}}},
            {
                "prompt": "Lake Como is in",
                "subject": "Lake Como",
                "target_new": "Chad",
                "rephrase_prompt": "Como:",
            },
        ]
    )
    with pytest.raises(
        DataError, match=r"column 'locality_inputs\.a\.prompt': expected a list of 2"
    ):
        load_edits(columns | {"locality_inputs": {"a": {"prompt": ["p"]}}})
    with pytest.raises(DataError, match="column 'subject': expected a list of 2, .* got 'Orta'"):
        load_edits(columns | {"subject": "Orta"})


def test_a_dataset_object_need_not_be_iterable():
    class Facts:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return FACT | {"case_id": index}

    class Endless:
        def __getitem__(self, index):
            return FACT

    assert load_edits(Facts(), limit=1) == easyedit_requests([FACT])
    assert [edit.case_id for edit in easyedit_requests(Facts())] == ["0", "1"]
    with pytest.raises(DataError, match="expected a list of requests"):
        easyedit_requests(Endless())


def test_records_of_any_data_set(make, put):
    for name, records in {
        "counterfact": [make.rome(), make.rome(case_id=8)],
        "zsre": [make.zsre_1037()],
        "peak": [make.peak()],
        "unke": [make.unke()],
    }.items():
        assert easyedit_requests(records) == load_edits(name, put(records))
    (alone,) = easyedit_requests([{"case_id": 7, "requested_rewrite": make.rewrite()}])
    (call,) = easyedit_requests([make.rewrite()])  # as ROME's own functions take it
    for edit in (alone, call):
        assert (edit.prompt, edit.subject_span, edit.target_old) == (
            "Lake Orta is in",
            (0, 9),
            "Italy",
        )
    with pytest.raises(DataError, match="record 0: expected an edit, got a KnownFact record"):
        easyedit_requests([make.known()])


FILLED = EditRequest("0", "Of Lake Orta it is", "Peru", "Lake Orta", (3, 12))


@pytest.mark.parametrize("span", [{}, {"subject_span": None}])
def test_a_template_is_filled_in_wherever_it_occurs(make, put, span):
    template = {"prompt": "Of {} it is", "subject": "Lake Orta", "target_new": "Peru"}
    for edits in (
        load_edits([template]),
        load_edits([EditRequest("0", "Of {} it is", "Peru", "Lake Orta")]),
        load_edits("jsonl", put([template | span])),
    ):
        assert edits == [FILLED]
        assert edits.report.fields("filled_template") == {"prompt": 1}
    record = make.knowedit(prompt="Of {} it is", rephrase_prompt="{} lies in")
    (edit,) = edits = load_edits("zsre", put([record]))
    assert (edit.prompt, edit.subject_span) == (FILLED.prompt, FILLED.subject_span)
    assert edit.probes[0].prompt == "Lake Orta lies in"
    assert edits.report.count("filled_template") == 2


def test_a_template_scores_as_its_prompt():
    model = tiny.model("gpt2", torch.float32)
    facts = [FACT, FACT | {"prompt": "{} is in"}]
    text, template = (score_layers(model, [fact], old=None) for fact in facts)
    assert {n: v.tolist() for n, v in text.norm2_new.items()} == {
        n: v.tolist() for n, v in template.norm2_new.items()
    }


@pytest.mark.parametrize(
    ("prompt", "subject", "text", "notes"),
    [
        ("The ruler of {} speaks Iranian", "Iran", "The ruler of Iran speaks Iranian", (1, 0)),
        ("In C, {} is what Orta is", "Orta", "In C, {} is what Orta is", (0, 1)),
        ("In C, {} is", None, "In C, {} is", (0, 1)),
    ],
)
def test_braces_that_are_text_are_noted(prompt, subject, text, notes):
    edits = easyedit_requests([FACT | {"prompt": prompt, "subject": subject}])
    assert edits[0].prompt == text
    count = edits.report.count
    assert (count("filled_template"), count("unfilled_template")) == notes


def test_a_template_with_several_places_is_refused():
    with pytest.raises(DataError, match=r"field 'prompt': expected text with '\{\}' once"):
        easyedit_requests([FACT | {"prompt": "{} and {}"}])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"probes": (Probe("near", "g", "p", "a"),)}, "field 'probes[0].kind': expected one of"),
        (
            {"probes": (Probe("locality", "g", "p", 3),)},
            "field 'probes[0].answer': expected text, got",
        ),
        ({"target_new": "t\ud83d"}, "field 'target_new': expected text that UTF-8 can hold"),
    ],
)
def test_objects_are_checked_as_files_are(changes, says):
    request = EditRequest(**{"case_id": "a", "prompt": "p", "target_new": "t"} | changes)
    with pytest.raises(DataError) as caught:
        easyedit_requests([request])
    assert f"requests: record 0 (case_id 'a'), {says}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target_old": 3}, "target_old must be a string or None, got 3"),
        ({"subject": 3}, "subject must be a string or None, got 3"),
        ({"subject": "p", "subject_span": (0, "1")}, "subject_span must be two whole numbers, got"),
        ({"probes": None}, "probes must be a tuple of Probe, got None"),
        ({"probes": ("x",)}, "probes must be a tuple of Probe, got ('x',)"),
        ({"answers": ["x"]}, "answers must be AnswerLists or None, got ['x']"),
        ({"kind": "odd"}, "kind must be one of factual, composite, unstructured, got 'odd'"),
    ],
)
def test_objects_of_other_types_are_not_made(changes, says):
    with pytest.raises(DataError) as caught:
        EditRequest(**{"case_id": "a", "prompt": "p", "target_new": "t"} | changes)
    assert f"edit request 'a': {says}" in str(caught.value)


def test_objects_that_are_whole_stay_as_they_are():
    whole = EditRequest("a", "p Orta", "t", "Orta", (2, 6), "", (NEAR, HOP), kind="composite")
    assert easyedit_requests([whole]) == [whole]
    (edit,) = easyedit_requests([EditRequest("a", "p Orta", "t", "Orta")])
    assert edit.subject_span == (2, 6)
