"""Small records in the released forms, written for these tests, and a way to put them in files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.datasets import more_records

ROOT = Path(__file__).parents[2]


def knowedit(**changes: Any) -> dict[str, Any]:
    return {
        "subject": "Lake Orta",
        "prompt": "The country of Lake Orta is",
        "target_new": "Peru",
        "ground_truth": ["Italy"],
        "rephrase_prompt": "Lake Orta lies in",
        "cond": "Italy >> Peru",
        "locality": {
            "Relation_Specificity": [{"prompt": "Lake Orta drains into", "ground_truth": ["Toce"]}]
        },
        "portability": {
            "Reasoning": [{"prompt": "Around Lake Orta people speak", "ground_truth": "Spanish"}]
        },
    } | changes


def wikidata(**changes: Any) -> dict[str, Any]:
    record = knowedit(
        ground_truth="Italy",
        locality={
            "Relation_Specificity": [
                {"prompt": "Lake Orta drains into", "ground_truth": [["Toce", "river Toce"]]}
            ],
            "Forgetfulness": [{"prompt": "Not Peru but", "ground_truth": [["Italy"], ["Italia"]]}],
        },
    )
    del record["rephrase_prompt"], record["cond"]
    return record | changes


def zsre_1037(**changes: Any) -> dict[str, Any]:
    return {
        "subject": "Lake Orta",
        "src": "In which country is Lake Orta?",
        "pred": "Spain",
        "rephrase": "Where is Lake Orta?",
        "alt": "Peru",
        "answers": ["Italy", "Italian Republic"],
        "loc": "nq question: who wrote emma",
        "loc_ans": "Jane Austen",
        "cond": "Spain >> Peru",
        "portability": {
            "Recalled Relation": "(Peru, language, Spanish)",
            "New Question": "What do people speak around Lake Orta?",
            "New Answer": "Spanish",
        },
    } | changes


def counterfact(**changes: Any) -> dict[str, Any]:
    return {
        "case_id": 7,
        "prompt": "Lake Orta is in",
        "target_new": "Peru",
        "subject": "Lake Orta",
        "ground_truth": "Italy",
        "rephrase_prompt": "A boat on Lake Orta is in",
        "locality_prompt": "Lake Como is in",
        "locality_ground_truth": "Italy",
    } | changes


def rewrite(prompt: str = "{} is in", subject: str = "Lake Orta") -> dict[str, Any]:
    return {
        "prompt": prompt,
        "relation_id": "P17",
        "target_new": {"str": "Peru", "id": "Q419"},
        "target_true": {"str": "Italy", "id": "Q38"},
        "subject": subject,
    }


def rome(**changes: Any) -> dict[str, Any]:
    return {
        "case_id": 7,
        "pararel_idx": 3,
        "requested_rewrite": rewrite(),
        "paraphrase_prompts": ["A boat. Lake Orta is in", "Rain. Lake Orta lies in"],
        "neighborhood_prompts": ["Lake Como is in", "Lake Garda is in"],
        "attribute_prompts": ["Lake Titicaca is in"],
        "generation_prompts": ["Around Lake Orta one eats"],
    } | changes


def peak(**changes: Any) -> dict[str, Any]:
    return {
        "case_id": 7,
        "requested_rewrite": rewrite("The shores of {} touch"),
        "postive_list": ["Italy", "Novara"],
        "negtive_list": ["Spain", "Novara"],
        "para_add_prompts": ["Lake Orta borders"],
        "neighborhood_prompts": [["Lake Como touches", "Italy"]],
        "negtive_random_list": ["Emma"],
    } | changes


def wikibio(**changes: Any) -> dict[str, Any]:
    return {
        "text": "This is a passage about ada pond. Ada Pond was a swimmer. ",
        "labels": "She swam across Lake Orta in 1931.",
        "concept": "ada pond",
        "locality": {
            "Relation_Specificity": [{"prompt": "ada pond was born in", "ground_truth": ["Rome"]}]
        },
    } | changes


def unke(**changes: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "question": "Who was Ada Pond?",
        "para_question": "What did Ada Pond do?",
        "answer": "Ada Pond was a swimmer. She crossed Lake Orta in 1931.",
        "sub_question": ["What was she?", "When did she cross?"],
        "sub_answer": ["A swimmer.", "1931."],
    } | changes


def mmlu(**changes: Any) -> dict[str, Any]:
    return {
        "question": "Which is a lake?",
        "subject": "geography",
        "choices": ["Orta", "Rome", "Ada", "Emma"],
        "answer": 0,
    } | changes


def known(**changes: Any) -> dict[str, Any]:
    return {
        "known_id": 7,
        "subject": "Lake Orta",
        "attribute": "Italy",
        "template": "{} is in",
        "prediction": " Italy, and",
        "prompt": "Lake Orta is in",
        "relation_id": "P17",
    } | changes


@pytest.fixture
def put(tmp_path):
    """Write records (or text, or bytes) to a file and give its path."""

    def write(content: Any, name: str = "facts.json") -> Path:
        path = tmp_path / name
        if not isinstance(content, bytes):
            text = content if isinstance(content, str) else json.dumps(content)
            content = text.encode()
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def make():
    """The makers above; a test file cannot import a conftest."""
    makers = (knowedit, wikidata, zsre_1037, counterfact, rome, peak, wikibio, unke, mmlu, known)
    makers += tuple(getattr(more_records, name) for name in more_records.MAKERS)
    return SimpleNamespace(**{make.__name__: make for make in (*makers, rewrite)})


@pytest.fixture
def released():
    """The path of a released file; skips where the files are not."""
    folder = Path(os.environ.get("LGA_FAST_DATA") or ROOT.parent / "shared" / "data")

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"{name} is not in {folder}")
        return path

    return find
