"""The released files, where they are: counts of records, probes and oddities."""

from __future__ import annotations

from collections import Counter

import pytest

from lga_fast.datasets import load, load_edits, write_jsonl

pytestmark = pytest.mark.data

# file: records, probes by kind and group, findings other than unused fields
EDITS = {
    ("zsre", "zsre/ZsRE-test-all.json"): (
        1304,
        {
            "rephrase/rephrase": 1304,
            "locality/Relation_Specificity": 2608,
            "portability/Reasoning": 771,
            "portability/Subject_Aliasing": 264,
            "portability/Logical_Generalization": 269,
        },
        {"subject_absent": 3, "edge_whitespace": 12, "other_old_answers": 25, "target_is_old": 43},
    ),
    ("zsre", "zsre/zsre_mend_eval_portability_gpt4.json"): (
        1037,
        {"rephrase/rephrase": 1037, "locality/neighborhood": 1037, "portability/one_hop": 1037},
        {"edge_whitespace": 15, "other_old_answers": 31, "target_is_old": 29},
    ),
    ("counterfact", "counterfact/counterfact-val.json"): (
        1919,
        {"rephrase/rephrase": 1919, "locality/neighborhood": 1919},
        {},
    ),
    ("counterfact", "counterfact/counterfact_portability_gpt4.json"): (
        1031,
        {"rephrase/rephrase": 2062, "locality/neighborhood": 10310, "portability/one_hop": 1031},
        {},
    ),
    ("wikibio", "wikibio/wikibio-test-all.json"): (
        306,
        {"locality/Relation_Specificity": 612},
        {"edge_whitespace": 68},
    ),
    ("wikidata", "wiki_counterfact/test_cf.json"): (
        885,
        {
            "locality/Relation_Specificity": 5488 - 2,
            "locality/Forgetfulness": 468,
            "portability/Reasoning": 2226 - 5,
            "portability/Subject_Aliasing": 2408,
            "portability/Logical_Generalization": 483 - 20,
        },
        {"empty_group": 28, "missing_answer": 27, "blank_alias": 16},
    ),
    ("wikidata", "wiki_recent/recent_test.json"): (
        1266,
        {
            "locality/Relation_Specificity": 5363,
            "locality/Forgetfulness": 842,
            "portability/Reasoning": 9689,
            "portability/Subject_Aliasing": 1243,
            "portability/Logical_Generalization": 769,
        },
        {},
    ),
    ("peak", "peak/PEAK_counter.json"): (
        1962,
        {"rephrase/rephrase": 3344, "locality/neighborhood": 10760},
        {"target_is_old": 1, "target_among_right": 7, "right_and_wrong": 51},
    ),
    ("unke", "unke/final_data_v2.json"): (
        1000,
        {"rephrase/rephrase": 1000, "portability/sub_question": 4729},
        {},
    ),
}


@pytest.mark.parametrize(("name", "file"), EDITS, ids=[file for _, file in EDITS])
def test_edits(name, file, released, tmp_path):
    records, probes, findings = EDITS[name, file]
    edits = load_edits(name, released(file))
    assert len(edits) == edits.report.records == records
    assert Counter(f"{p.kind}/{p.group}" for edit in edits for p in edit.probes) == probes
    counts = Counter(finding.kind for finding in edits.report.findings)
    del counts["unused_field"]
    assert counts == findings
    assert len({edit.case_id for edit in edits}) == records
    spans = sum(edit.subject_span is not None for edit in edits)
    assert spans == (0 if name == "unke" else records - findings.get("subject_absent", 0))

    some = edits[::5]  # all of them would take most of this suite's time
    write_jsonl(some, tmp_path / "some.jsonl")
    assert load_edits("jsonl", tmp_path / "some.jsonl") == some


def test_zsre_subjects_that_are_not_verbatim(released):
    edits = load_edits("zsre", released("zsre/ZsRE-test-all.json"))
    assert [finding.record for finding in edits.report.where("subject_absent")] == [396, 597, 676]
    assert edits[396].subject_span is None and edits[396].subject is not None


def test_wikidata_empty_groups_are_all_of_one_kind(released):
    report = load_edits("wikidata", released("wiki_counterfact/test_cf.json")).report
    assert report.fields("empty_group") == {"portability.Logical_Generalization": 28}


def test_peak_answers(released):
    edits = load_edits("peak", released("peak/PEAK_counter.json"))
    assert all(edit.answers and edit.answers.right[0] == edit.target_old for edit in edits)
    assert Counter(len(edit.answers.unrelated) for edit in edits if edit.answers) == {
        10: 1961,
        9: 1,
    }


@pytest.mark.parametrize(
    ("name", "file", "records", "findings"),
    [
        ("mmlu", "mmlu/mmlu_1516.jsonl", 1516, {"edge_whitespace": 125, "repeated_choice": 3}),
        ("mmlu", "mmlu/mmlu_shot.jsonl", 5, {}),
        ("known", "known_1000/known_1000.json", 1209, {}),
    ],
)
def test_others(name, file, records, findings, released):
    loaded = load(name, released(file))
    assert len(loaded) == len({item.case_id for item in loaded}) == records
    counts = Counter(finding.kind for finding in loaded.report.findings)
    del counts["unused_field"]
    assert counts == findings
