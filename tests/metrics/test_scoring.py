"""Rows under edits of their own give what one edited model after another gives."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast import memory
from lga_fast.errors import EditError, ScoringError
from lga_fast.metrics._scoring import Question, score
from lga_fast.tokens import Row, target_row
from lga_fast.weight_edit import WeightEdit
from tests.models.edits import bits, make_edit

FAMILIES = ["gpt2", "llama", "gemma3", "qwen3"]
QUESTIONS = [
    Question("The capital of France is", "Rome"),
    Question("Q: Who wrote the long book? A:", "Danielle Darrieux, as everyone knows"),
    Question("In which city does the tower stand? It stands in", "New York"),
    Question("The mother tongue of Ann Lee is", "English"),
    Question("The capital of Italy is", "Paris"),
    Question("The capital of France is", "Berlin, Vienna or Rome"),
]


def strong(model, layers, rank, seed):
    return make_edit(model, layers, rank, seed, scale=0.5)


def mixed(model):
    """An edit shared by two rows, one of two layers, other ranks, other layers, and none."""
    shared = strong(model, [2], 1, 0)
    others = [strong(model, [1, 3], 3, 1), strong(model, [4], 2, 2)]
    return [shared, others[0], None, shared, others[1], others[0]]


def one_by_one(model, edits):
    found = []
    for question, edit in zip(QUESTIONS, edits, strict=True):
        if edit is None:
            found += score(model, [question])
        else:
            with model.edited(edit):
                found += score(model, [question])
    return found


def assert_equal(got, expected, tolerance):
    assert [a.row for a in got] == [b.row for b in expected]
    assert [a.predicted for a in got] == [b.predicted for b in expected]
    for a, b in zip(got, expected, strict=True):
        assert a.log_probs == pytest.approx(b.log_probs, rel=tolerance, abs=tolerance)


@pytest.mark.usefixtures("keep_double")
@pytest.mark.parametrize("family", [*FAMILIES, "opt"])
def test_a_batch_of_edits_is_one_edited_model_after_another(family):
    model = tiny.model(family)
    edits = mixed(model)
    got = score(model, QUESTIONS, edits)
    assert_equal(got, one_by_one(model, edits), 1e-9)
    plain = score(model, QUESTIONS)
    assert_equal([got[2]], [plain[2]], 1e-12)
    moved = [abs(a.log_probs[0] - b.log_probs[0]) for a, b in zip(got, plain, strict=True)]
    assert all(m > 1e-4 for i, m in enumerate(moved) if i != 2), "an edit had no effect"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_lower_precision_differs_by_rounding_only(dtype, tolerance):
    model = tiny.model("llama", dtype)
    edits = mixed(model)
    got, expected = score(model, QUESTIONS, edits), one_by_one(model, edits)
    for a, b in zip(got, expected, strict=True):
        assert a.log_probs == pytest.approx(b.log_probs, abs=tolerance)


@pytest.mark.usefixtures("keep_double")
@pytest.mark.parametrize("family", FAMILIES)
def test_what_shares_a_batch_does_not_matter(family):
    model = tiny.model(family)
    edits = mixed(model)
    whole = score(model, QUESTIONS, edits)
    for tokens in (1, 12, 25):
        assert_equal(score(model, QUESTIONS, edits, batch_tokens=tokens), whole, 1e-12)
    back = score(model, QUESTIONS[::-1], edits[::-1])
    assert_equal(back[::-1], whole, 1e-12)


@pytest.mark.usefixtures("keep_double")
def test_it_is_the_plain_formula():
    """Arg max and log-softmax at the places before the answer's tokens, of one unpadded row."""
    model = tiny.model("qwen3")
    for question, answered in zip(QUESTIONS, score(model, QUESTIONS), strict=True):
        row = target_row(model.tokenizer, question.prompt, question.answer)
        with torch.no_grad(), model.frozen():
            logits = model.hf(torch.tensor([row.ids])).logits[0, row.start - 1 : -1]
        assert answered.predicted == tuple(logits.argmax(-1).tolist())
        log_p = logits.log_softmax(-1)[range(len(row.target)), row.target]
        assert answered.log_probs == pytest.approx(log_p.tolist(), rel=1e-9)
        right = [p == t for p, t in zip(answered.predicted, row.target, strict=True)]
        assert answered.accuracy == sum(right) / len(right)


def test_answers_that_differ_in_the_last_token_are_one_row(monkeypatch):
    model = tiny.model("gpt2", torch.float32)
    edit = strong(model, [2], 1, 0)
    rows = [Row((7, 8, 9, last), 3) for last in (10, 11, 12)] + [Row((7, 8, 9, 10), 2)]
    widths = []
    plain = model.logits_at
    monkeypatch.setattr(
        model, "logits_at", lambda ids, *a, **k: widths.append(ids.shape) or plain(ids, *a, **k)
    )
    found = score(model, rows * 2, [edit] * 4 + [None] * 4)
    assert widths == [(4, 3)]  # two edits, two places where the answer begins
    alone = [score(model, [row], [edit])[0] for row in rows]
    for a, b in zip(found[:4], alone, strict=True):
        assert a.row == b.row and a.predicted == b.predicted
        assert a.log_probs == pytest.approx(b.log_probs, abs=1e-5)


def test_the_model_stays_as_it_was():
    model = tiny.model("gemma3", torch.float32)
    before = bits(model)
    rng = torch.get_rng_state()
    score(model, QUESTIONS, mixed(model))
    with pytest.raises(RuntimeError, match="stop"):
        model.hf.get_output_embeddings().register_forward_pre_hook(_stop)
        score(model, QUESTIONS, mixed(model))
    assert bits(model) == before
    assert model.hf.training and all(p.requires_grad for p in model.hf.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    assert not any(m._forward_hooks for m in model.hf.modules())


def _stop(*args):
    raise RuntimeError("stop")


def test_a_small_budget_makes_small_batches(monkeypatch):
    model = tiny.model("gpt2", torch.float32)
    seen = []
    plain = memory.batches
    monkeypatch.setattr(memory, "batches", lambda w, t: seen.append(t) or plain(w, t))
    edits = [strong(model, [2], 4, i) for i in range(len(QUESTIONS))]
    whole = score(model, QUESTIONS, edits)
    model.memory_budget = 200_000
    assert score(model, QUESTIONS, edits)[0].predicted == whole[0].predicted
    assert seen[0] == 4096 and seen[1] < 40


def test_bad_input_is_refused():
    model = tiny.model("gpt2", torch.float32)
    edit = strong(model, [2], 1, 0)
    with pytest.raises(ScoringError, match="expected one per question, 6, got 1"):
        score(model, QUESTIONS, [edit])
    with pytest.raises(ScoringError, match="takes at most 128; shorten or remove 'a a"):
        score(model, [Question("a " * 200, "b")])
    with pytest.raises(ScoringError, match="one token or more each, got 2 and 0"):
        score(model, [Row((1, 2), 2)])
    other = tiny.model("llama", torch.float32)
    with pytest.raises(EditError, match="expected an MLP matrix of 'tiny-llama'"):
        score(other, QUESTIONS[:1], [edit])
    foreign = WeightEdit(edit.deltas, {"model_fingerprint": "0123"})
    with pytest.raises(EditError, match=r"solved on other weights: .* got 0123\."):
        score(model, QUESTIONS[:1], [foreign])


def test_no_questions_no_answers():
    assert score(tiny.model("gpt2"), []) == []
