"""MMLU: the likeliest letter."""

from __future__ import annotations

import json

import pytest
import tiny
import torch

from lga_fast.errors import MetricError
from lga_fast.metrics import ScoredAnswer, choose, measure_cases, score
from lga_fast.records import EditRequest
from lga_fast.tokens import Row

REQUESTS = [EditRequest(name, "The capital of France is", "Rome") for name in "abcdef"]
QUESTIONS = [
    {"question": f"What is {i} + 1?", "choices": [str(i + k) for k in range(4)], "answer": 1}
    for i in range(5)
]


@pytest.fixture
def files(tmp_path):
    paths = {"path": tmp_path / "questions.jsonl", "shots": tmp_path / "shots.jsonl"}
    paths["path"].write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS[1:]))
    paths["shots"].write_text(json.dumps(QUESTIONS[0]) + "\n")
    return {name: str(path) for name, path in paths.items()}


def metric(files, **options):
    return choose(["mmlu"], {"mmlu": files | options})["mmlu"]


def test_the_prompt_shows_worked_examples_and_asks_for_a_letter(files):
    asked = metric(files, per_request=0).questions(REQUESTS[0])
    assert [q.answer for q in asked] == list("ABCD") * 4
    assert len({q.prompt for q in asked}) == 4
    assert asked[0].prompt == (
        "The following are multiple choice questions (with answers).\n\n"
        "What is 0 + 1?\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer: B\n\n"
        "What is 1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    )


def test_a_question_counts_when_the_models_likeliest_letter_is_right(files):
    model = tiny.model("llama", max_position_embeddings=400)
    made = metric(files, per_request=0)
    asked = made.questions(REQUESTS[0])
    answers = score(model, asked)
    right = []
    for i in range(4):
        ids = torch.tensor([answers[4 * i].row.ids[:-1]])
        with torch.no_grad(), model.frozen():
            logits = model.hf(ids).logits[0, -1]
        letters = [answers[4 * i + k].row.ids[-1] for k in range(4)]
        right.append(int(logits[letters].argmax()) == 1)
    cases, _ = measure_cases(model, REQUESTS[:1], None, {"mmlu": made})
    assert cases == [{"mmlu": sum(right) / 4}]


def test_the_likeliest_of_the_letters_is_compared_with_the_right_one(files):
    def answers(*log_probs):
        return [ScoredAnswer(Row((0, 1), 1), (1,), (log_p,)) for log_p in log_probs]

    made = metric(files, per_request=2)
    right, wrong = answers(-2.0, -1.0, -3.0, -4.0), answers(-2.0, -1.0, -0.5, -4.0)
    assert made.measure(REQUESTS[0], [], right + wrong) == {"mmlu": 0.5}


def test_requests_draw_questions_of_their_own_and_the_same_again(files):
    made, again = metric(files), metric(files)
    drawn = [made.questions(request) for request in REQUESTS]
    assert all(len(asked) == 8 for asked in drawn)
    assert drawn == [again.questions(request) for request in REQUESTS]
    assert len({tuple(asked) for asked in drawn}) > 1
    assert [metric(files, seed=1).questions(r) for r in REQUESTS] != drawn


def test_wrong_options_are_refused(files):
    with pytest.raises(MetricError, match="expected the path of a file of questions, got none"):
        metric({})
    with pytest.raises(MetricError, match="per_request=5: expected 0 to 4"):
        metric(files, per_request=5)
