"""Old answers of one token: the pass finds them itself, nothing is decoded for them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tiny

from lga_fast import score_layers
from lga_fast.errors import NothingToScore
from lga_fast.forward import decoding
from lga_fast.records import EditRequest
from lga_fast.scoring import pairs, score

# One token each; prompts of several lengths.
SHORT = [replace(one, target_new="the", target_old="is") for one in tiny.REQUESTS]


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """The number of prompts of every call that decodes."""
    counts: list[int] = []
    real = decoding.greedy_batches

    def greedy_batches(model, batches):
        counts.append(sum(len(prompts) for prompts, _ in batches))
        return real(model, batches)

    monkeypatch.setattr(decoding, "greedy_batches", greedy_batches)
    return counts


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "mistral", "opt", "qwen3_5_text"])
@pytest.mark.parametrize("loss_scope", ["target", "full"])
def test_they_give_what_decoded_ones_give(family, loss_scope, decoded, monkeypatch):
    model = tiny.model(family)
    asked = score_layers(model, SHORT, loss_scope=loss_scope)
    assert decoded == []
    monkeypatch.setattr(score, "build_pairs", not_asking)
    want = score_layers(model, SHORT, loss_scope=loss_scope)
    assert decoded == [len(SHORT)]
    for name in want.dot:
        np.testing.assert_array_equal(asked.dot[name], want.dot[name])
        np.testing.assert_array_equal(asked.norm2_old[name], want.norm2_old[name])
    np.testing.assert_array_equal(asked.loss_old, want.loss_old)
    count = "sequence_forwards"
    assert asked.provenance[count] == want.provenance[count] - len(SHORT)


def not_asking(*args, ask, **options):
    return pairs.build_pairs(*args, **options)


def test_longer_ones_are_decoded_beside_them(decoded):
    mixed = [*SHORT[:2], *tiny.REQUESTS[2:]]
    scores = score_layers(tiny.model("gpt2"), mixed)
    assert decoded == [3] and len(scores.case_ids) == 5


def test_an_answer_that_ends_the_text_drops_its_request(decoded, monkeypatch):
    model = tiny.model("gpt2")
    rows, _ = pairs.build_pairs(model, SHORT)
    firsts = [pair.old.target[0] for pair in rows]
    monkeypatch.setattr(type(model), "end_ids", lambda self: {firsts[1]})
    left = [i for i, first in enumerate(firsts) if first != firsts[1]]
    decoded.clear()
    score_these = partial(score_layers, model)
    if not left:
        pytest.skip("this model begins every answer alike")
    scores = score_these(SHORT)
    assert scores.case_ids == tuple(SHORT[i].case_id for i in left)
    assert [one.case_id for one in scores.dropped] == [
        one.case_id for i, one in enumerate(SHORT) if i not in left
    ]
    with pytest.raises(NothingToScore, match="the model's own answer is empty") as error:
        score_these([SHORT[1]])
    assert [one.case_id for one in error.value.dropped] == [SHORT[1].case_id]
    assert decoded == []


def test_a_fact_that_the_model_knows_is_found_out_by_the_pass():
    model = tiny.model("gpt2")
    (pair,), _ = pairs.build_pairs(model, SHORT[:1])
    answer = model.tokenizer.decode(pair.old.target).strip()
    request = EditRequest("known", SHORT[0].prompt, answer)
    (again,), _ = pairs.build_pairs(model, [request])
    assert score_layers(model, [request]).known.tolist() == [again.known]
