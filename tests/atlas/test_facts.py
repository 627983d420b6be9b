"""The fact files: their form, and that they do not contradict one another."""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections import Counter, defaultdict

import pytest

from lga_fast.atlas import FACTS
from lga_fast.atlas.relations import (
    N_PHRASINGS,
    Relation,
    hop_answer,
    questions,
    read_relation,
    read_relations,
    stable_hash,
)
from lga_fast.errors import DataError

RELATIONS = read_relations()
each_relation = pytest.mark.parametrize("relation", RELATIONS.values(), ids=RELATIONS)


def test_there_is_enough_of_it():
    assert 25 <= len(RELATIONS) <= 35
    assert sum(len(relation.facts) for relation in RELATIONS.values()) >= 2000


@each_relation
def test_phrasings_frame_the_subject_and_stop_before_the_answer(relation: Relation):
    assert len(set(relation.phrasings)) == N_PHRASINGS
    hops = relation.hop.phrasings if relation.hop else ()
    for text in (*relation.phrasings, *hops):
        assert text.count("{}") == 1 and text.replace("{}", "").count("{") == 0, text
        assert text == text.strip() and (text[0].isupper() or text.startswith("{}")), text
    after = [len(text.partition("{}")[2].split()) for text in relation.phrasings]
    assert sum(n >= 2 for n in after) >= 4, "too often the subject is the last thing said"
    assert sum(not text.startswith("{}") for text in relation.phrasings) >= 2


@each_relation
def test_facts_are_well_formed(relation: Relation):
    for subject, answer in relation.facts.items():
        for text in (subject, answer):
            assert text and text == text.strip() == unicodedata.normalize("NFC", text)
            assert not set('{}"\n') & set(text), text
        assert not answer.endswith(".") or answer.endswith("Jr."), answer
        assert len(answer.split()) <= 5, answer
        assert answer not in subject, f"{subject} gives {answer} away"
    counts = Counter(relation.facts.values())
    assert len(counts) >= 5
    assert counts.most_common(1)[0][1] <= 0.35 * len(relation.facts)


def test_no_question_has_two_answers():
    answers = defaultdict(set)
    for kind in ("trained", "held_out", "hop_trained", "hop_untrained"):
        for question in questions(RELATIONS, kind):
            answers[question.prompt].add(question.answer)
    assert not {prompt: texts for prompt, texts in answers.items() if len(texts) > 1}


def test_a_capital_lies_in_its_country():
    country_of = RELATIONS["city_country"].facts
    for country, capital in RELATIONS["country_capital"].facts.items():
        assert country_of.get(capital, country) == country


@pytest.mark.parametrize("name", ["composer_country", "painter_country", "scientist_country"])
def test_a_birthplace_lies_in_the_country_of_birth(name: str):
    birthplace, country_of = RELATIONS["person_birthplace"].facts, RELATIONS["city_country"].facts
    for person, country in RELATIONS[name].facts.items():
        assert country_of.get(birthplace.get(person, ""), country) == country, person


def test_a_subject_of_two_relations_of_one_kind_has_one_answer():
    by_kind = defaultdict(list)
    for relation in RELATIONS.values():
        # Somebody may lead one country and be born in another; all other kinds must agree.
        if relation.name != "leader_country":
            by_kind[relation.subject_type, relation.answer_type].append(relation)
    for same in by_kind.values():
        for one, other in itertools.combinations(same, 2):
            for subject in one.facts.keys() & other.facts.keys():
                assert one.facts[subject] == other.facts[subject], subject


def test_countries_are_spelled_alike_everywhere():
    known = set(RELATIONS["country_continent"].facts) | set(RELATIONS["country_capital"].facts)
    known |= {"Bolivia", "Indonesia", "Malaysia", "Mexico", "South Africa"}
    used = {
        answer
        for relation in RELATIONS.values()
        if relation.answer_type == "country"
        for answer in relation.facts.values()
    }
    assert used <= known, used - known


@each_relation
def test_hops_lead_somewhere(relation: Relation):
    if relation.hop is not None:
        assert relation.hop.relation in RELATIONS and len(relation.hop.phrasings) == 2
        reached = [hop_answer(RELATIONS, relation, answer) for answer in relation.facts.values()]
        assert sum(answer is not None for answer in reached) >= 0.75 * len(reached)


def test_held_out_phrasings_are_two_per_fact_and_shared_by_all_phrasings():
    held_out = Counter(
        phrasing
        for relation in RELATIONS.values()
        for subject in relation.facts
        for phrasing in relation.held_out(subject)
    )
    facts = sum(len(relation.facts) for relation in RELATIONS.values())
    assert sum(held_out.values()) == 2 * facts
    assert all(0.2 * facts < n < 0.3 * facts for n in held_out.values())
    relation = RELATIONS["country_capital"]
    assert not set(relation.held_out("Peru")) & set(relation.trained("Peru"))


def test_hash_is_the_same_in_every_process():
    assert stable_hash("country_capital|Peru|phrasings") == 16550503648718552014


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phrasings": ["{} is"]}, "expected 8 phrasings, got 1"),
        ({"relation": "other"}, "'relation' must be 'country_capital', got 'other'"),
        ({"facts": [["Peru", "Lima"], ["Peru", "Cusco"]]}, "a subject occurs twice"),
        ({"hop": {}}, "expected a fact file, got KeyError: 'relation'"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, change: dict, message: str):
    record = json.loads((FACTS / "country_capital.json").read_text(encoding="utf-8"))
    path = tmp_path / "country_capital.json"
    path.write_text(json.dumps(record | change), encoding="utf-8")
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        read_relation(path)
