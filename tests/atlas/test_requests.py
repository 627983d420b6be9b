"""The edit requests: made from the facts, byte for byte, and true to them."""

from __future__ import annotations

from collections import Counter

from lga_fast.atlas import REQUESTS
from lga_fast.atlas.relations import hop_answer, questions, read_relations
from lga_fast.datasets import load_edits
from lga_fast.records import EditRequest
from tools.atlas.make_requests import make_requests, text_of

RELATIONS = read_relations()
EDITS = load_edits("atlas")


def _relation_of(edit: EditRequest):
    return RELATIONS[edit.case_id.partition(":")[0]]


def test_the_file_is_what_the_script_makes_of_the_facts():
    assert text_of(make_requests(RELATIONS)) == REQUESTS.read_text(encoding="utf-8")


def test_they_load_without_a_finding():
    assert len(EDITS) == 450
    assert not EDITS.report.findings
    assert EDITS.provenance.name == "atlas"
    assert min(Counter(_relation_of(edit).name for edit in EDITS).values()) >= 10


def test_new_answers_are_of_the_relation_and_wrong():
    for edit in EDITS:
        facts = _relation_of(edit).facts
        assert edit.subject is not None and facts[edit.subject] == edit.target_old
        assert edit.target_new in facts.values()
        assert edit.target_new not in (edit.target_old, edit.subject)


def test_prompts_are_trained_phrasings_and_half_of_the_rephrasings_are_not():
    trained = {q.prompt for q in questions(RELATIONS, "trained")}
    held_out = {q.prompt for q in questions(RELATIONS, "held_out")}
    for edit in EDITS:
        probes = [probe for probe in edit.probes if probe.kind == "rephrase"]
        assert edit.prompt in trained
        for group, known in (("held_out", held_out), ("trained", trained)):
            prompts = {probe.prompt for probe in probes if probe.group == group}
            assert len(prompts) == 2 and prompts <= known - {edit.prompt}
        assert {probe.answer for probe in probes} == {edit.target_new}


def test_locality_probes_are_true_facts_about_other_subjects():
    true = {q.prompt: q.answer for q in questions(RELATIONS, "trained")}
    for edit in EDITS:
        assert edit.subject is not None
        own = {_relation_of(edit).prompt(edit.subject, i) for i in range(8)}
        for probe in edit.probes:
            if probe.kind == "locality":
                assert true[probe.prompt] == probe.answer
                assert probe.prompt not in own
            if probe.group == "neighborhood":
                assert probe.answer != edit.target_new


def test_portability_probes_ask_for_the_hop_of_the_new_answer():
    untrained = {q.prompt: q.answer for q in questions(RELATIONS, "hop_untrained")}
    n = 0
    for edit in EDITS:
        relation = _relation_of(edit)
        for probe in edit.probes:
            if probe.kind == "portability":
                assert probe.answer == hop_answer(RELATIONS, relation, edit.target_new)
                assert untrained[probe.prompt] != probe.answer
                n += 1
    assert n >= 300
