"""Tasks of lm-evaluation-harness on the edited and on the unedited model."""

from __future__ import annotations

import json
import random
import sys

import numpy as np
import pytest
import tiny
import torch
import yaml

from lga_fast.errors import EditError, MetricError
from lga_fast.evaluation.lm_harness import run_tasks
from lga_fast.metrics import Question, score
from tests.models.edits import bits, make_edit

ROWS = [
    {"prompt": "The capital of France is", "choices": ["Paris", "Rome", "New York"], "answer": 0},
    {"prompt": "The mother tongue of Ann Lee is", "choices": ["French", "English"], "answer": 1},
    {"prompt": "The tower stands in", "choices": ["Berlin", "Vienna"], "answer": 0},
]


@pytest.fixture
def task(tmp_path):
    """A multiple-choice task of a file here, and that no other is looked for."""
    pytest.importorskip("lm_eval", reason="lga-fast[harness] is not installed")
    from lm_eval.tasks import TaskManager

    path = tmp_path / "capitals.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = {
        "task": "capitals",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1},
    }
    (tmp_path / "capitals.yaml").write_text(yaml.safe_dump(config))
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    return {"tasks": ["capitals"], "task_manager": tasks}


def log_probs(found):
    """What the harness found for each choice of each question."""
    samples = sorted(found["samples"]["capitals"], key=lambda sample: sample["doc_id"])
    return [[resp[0][0] for resp in sample["resps"]] for sample in samples]


def expected(model):
    """The same by our own scoring, and the accuracy that follows."""
    questions = [[Question(row["prompt"], choice) for choice in row["choices"]] for row in ROWS]
    found = [[sum(s.log_probs) for s in score(model, group)] for group in questions]
    right = [int(np.argmax(f)) == row["answer"] for f, row in zip(found, ROWS, strict=True)]
    return found, float(np.mean(right))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_task_runs_on_the_edited_model_and_on_the_unedited_one(task, family):
    model = tiny.model(family, torch.float32)
    edit = make_edit(model, [1, 3], 2, 1, 0.5)
    means = {}
    for carried in (None, edit):
        found = run_tasks(model, edit=carried, batch_size=2, **task)
        if carried is None:
            ours, accuracy = expected(model)
        else:
            with model.edited(edit):
                ours, accuracy = expected(model)
        means[carried] = np.concatenate(ours)
        for theirs, own in zip(log_probs(found), ours, strict=True):
            np.testing.assert_allclose(theirs, own, atol=1e-4)
        assert found["results"]["capitals"]["acc,none"] == pytest.approx(accuracy)
        assert found["config"]["batch_size"] == 2
    assert np.abs(means[None] - means[edit]).max() > 0.01
    assert found["lga_fast"]["edit"]["checksum"] == edit.checksum
    assert found["lga_fast"]["model_fingerprint"] == model.fingerprint()


def test_the_model_stays_as_it_was(task):
    model = tiny.model("gpt2", torch.float32)
    head, embedding = model.hf.lm_head, model.hf.get_input_embeddings()
    assert head.weight is embedding.weight
    edit = make_edit(model)

    def state():
        tokenizer = model.tokenizer
        return (
            bits(model),
            head.weight is embedding.weight,
            model.hf.training,
            [p.requires_grad for p in model.hf.parameters()],
            (tokenizer.pad_token, tokenizer.padding_side, tokenizer.truncation_side),
            len(tokenizer),
            (model.hf.config.to_dict(), model.hf.generation_config.to_dict()),
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        )

    before = state()
    run_tasks(model, edit=edit, limit=1, **task)
    assert state() == before
    with torch.no_grad():  # a head of its own, which the config knows nothing of
        head.weight = torch.nn.Parameter(head.weight + 1)
    before = state()
    found = run_tasks(model, **task)
    assert state() == before and not before[1]
    for theirs, own in zip(log_probs(found), expected(model)[0], strict=True):
        np.testing.assert_allclose(theirs, own, atol=1e-4)


def test_what_would_mislead_is_refused(task, tmp_path):
    model = tiny.model("gpt2", torch.float32)
    with pytest.raises(MetricError, match="expected no use_cache"):
        run_tasks(model, use_cache=str(tmp_path / "answers"), **task)
    with pytest.raises(EditError, match="solved on other weights"):
        run_tasks(model, edit=make_edit(model, model_fingerprint="another"), **task)


def test_without_the_harness_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MetricError, match=r"pip install 'lga-fast\[harness\]'"):
        run_tasks(tiny.model("gpt2", torch.float32), ["hellaswag"])
