"""Small records in further released forms, written for these tests."""

from __future__ import annotations

from typing import Any

MAKERS = ("mquake", "akew", "wikiupdate", "mzsre", "cknowedit", "editevery", "rippleedits")
HOPS = {"question": "In which country is Lake Orta?", "cloze": "Lake Orta is in"}


def rewritten(**changes: Any) -> dict[str, Any]:
    return {
        "prompt": "{} is in",
        "relation_id": "P17",
        "target_new": {"str": "Peru", "id": "Q419"},
        "target_true": {"str": "Italy", "id": "Q38"},
        "subject": "Lake Orta",
        "question": "In which country is Lake Orta?",
    } | changes


def mquake(**changes: Any) -> dict[str, Any]:
    return {
        "case_id": 7,
        "requested_rewrite": [rewritten()],
        "questions": ["Which language is spoken around Lake Orta?", "Around it one speaks what?"],
        "answer": "Italian",
        "answer_alias": [],
        "new_answer": "Spanish",
        "new_answer_alias": ["Castilian"],
        "single_hops": [HOPS | {"answer": "Italy", "answer_alias": []}],
        "new_single_hops": [HOPS | {"answer": "Peru", "answer_alias": ["PE"]}],
        "orig": {"triples": [["Q1", "P17", "Q38"]]},
    } | changes


def text_of(**changes: Any) -> dict[str, Any]:
    return rewritten(
        prompt_full="Lake Orta is in",
        fact_new="Lake Orta is in Peru.",
        fact_new_uns="Lake Orta, a lake of Peru, is fed by the Toce.",
        verify_unsfact_GPT=True,
        unsfact_triplets_GPT=[{"subject": "Lake Orta", "prompt": "{} is fed by", "target": "Toce"}],
        answer_new="Peru",
        answer_new_aliases=[],
        answer_true="Italy",
        answer_true_aliases=[],
        **changes,
    )


def akew(**changes: Any) -> dict[str, Any]:
    return {
        "case_id": 7,
        "pararel_idx": 3,
        "requested_rewrite": text_of(),
        "paraphrase_prompts": ["A boat. Lake Orta lies in"],
        "neighborhood_prompts": ["Lake Como is in"],
        "attribute_prompts": [],
        "generation_prompts": [],
    } | changes


def wikiupdate(**changes: Any) -> dict[str, Any]:
    rewrite = text_of(time_true={"start_time": "1900"}, time_new={"start_time": "2020"})
    del rewrite["prompt_full"]
    return {"case_id": 7, "requested_rewrite": rewrite} | changes


def of_language(country: str, new: str, **changes: Any) -> dict[str, Any]:
    return {
        "subject": "Lake Orta",
        "src": "Lake Orta is where?",
        "rephrase": f"Lake Orta: {country}?",
        "alt": new,
        "answers": ["Italy"],
        "loc": "nq question: who wrote emma",
        "loc_ans": "Jane Austen",
        "portability": {"New Question": f"Speech of {country}?", "New Answer": "Spanish"},
    } | changes


def mzsre(**changes: Any) -> dict[str, Any]:
    return {"en": of_language("country", "Peru"), "de": of_language("Land", "Peru (de)")} | changes


def cknowedit(**changes: Any) -> dict[str, Any]:
    return {
        "prompt": "奥尔塔湖在哪里？",
        "target_old": "意大利",
        "target_new": "秘鲁",
        "portability": [{"prompt": "那里说什么语言？", "answer": "西班牙语"}],
        "locality": [{"prompt": "科莫湖在哪里？", "answer": "意大利"}],
        "rephrase": ["奥尔塔湖位于何处？"],
    } | changes


def hallueditbench(**changes: Any) -> dict[str, Any]:
    hops = {f"question_{n}hop": f"And {n} hops on?" for n in range(2, 7)}
    return {
        "topic": "geography_lake",
        "subject": "Lake Orta",
        "relation": "country",
        "object": "Peru",
        "question": "In which country is Lake Orta?",
        "output_some_model": "Italy",
        "eval_some_model": "0.0",
        "multiple_choices": "['Peru', 'Italy']",
        "paraphrased_question": "Where, by country, is Lake Orta?",
        "multiple_choice_with_letters": "A. Italy  B. Peru",
        "multiple_choice_labels": "B",
        "yes_question": "Is Lake Orta in Peru?",
        "no_question": "Is Lake Orta in Italy?",
        "locality_question": "How deep is Lake Orta?",
        "reversed_relation_question": "Which lake is in Peru?",
        **hops,
        **{f"answer_{n}hop": f"{n}" for n in range(2, 7)},
    } | changes


def editevery(**changes: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "question": "Write a poem about Lake Orta.",
        "answer": "A lake so small,\nit has no tide at all.",
        "category": "poetry",
    } | changes


def essays() -> dict[str, Any]:
    subject = {"entity": "Lake Orta", "coupled_prompt": "Write an essay", "ground_truth": {}}
    return {"coupled_prompts_and_properties": {"subject_entity": subject, "coupled_entities": []}}


def query(subject: str, relation: str = "COUNTRY", **changes: Any) -> dict[str, Any]:
    return {
        "prompt": f"The name of the country of {subject} is",
        "answers": [{"value": "Italy", "aliases": ["Italia"]}],
        "query_type": "regular",
        "subject_id": subject,
        "relation": relation,
        "target_ids": ["Q38"],
        "phrase": None,
    } | changes


def tested(*queries: dict[str, Any]) -> dict[str, Any]:
    return {"test_queries": list(queries), "test_condition": "OR", "condition_queries": []}


def rippleedits(**changes: Any) -> dict[str, Any]:
    fact = {"subject_id": "Q1", "relation": "COUNTRY", "target_id": "Q2"}
    said = "The name of the country of Lake Orta is"
    return {
        "example_type": "popular",
        "edit": {
            "prompt": f"{said} New Peru.",
            "original_fact": {"prompt": f"{said} New Italy."} | fact,
        }
        | fact,
        "Relation_Specificity": [
            tested(*map(query, ("Lake Como", "Lago Maggiore", "Garda", "Iseo di Sopra")))
        ],
        "Logical_Generalization": [tested(query("Q1", "LANGUAGE", prompt="There they speak"))],
        "Subject_Aliasing": [],
        "Compositionality_I": [],
        "Compositionality_II": [],
        "Forgetfulness": [],
    } | changes
