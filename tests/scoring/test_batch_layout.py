"""A packed row, worked out by hand."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast.scoring import batch_layout
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import Pair
from lga_fast.tokens import Row

#                 prompt      old answer                        prompt      new answer
PAIR = Pair(0, Row((1, 2, 3, 40, 41, 42), 3), Row((1, 2, 3, 50, 51), 3))


def test_a_packed_row():
    made = batch_layout.packed([PAIR], False, torch.float32)
    assert made.ids.tolist() == [[1, 2, 3, 40, 41, 50]]  # last tokens predict nothing
    assert made.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3]]
    seen = made.inputs["attention_mask"][0, 0] == 0
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],  # the new answer does not see the old one
    ]
    labels = list(zip(made.loss.tolist(), made.token.tolist(), made.label.tolist(), strict=True))
    assert labels == [(0, 2, 40), (0, 3, 41), (0, 4, 42), (1, 2, 50), (1, 5, 51)]
    assert made.old.tolist() == made.new.tolist() == [[0, 6]]


def test_separate_rows():
    made = batch_layout.separate([PAIR], False)
    assert made.ids.tolist() == [[1, 2, 3, 40, 41], [1, 2, 3, 50, 50]]  # padded by its last id
    assert (made.old.tolist(), made.new.tolist()) == ([[0, 5]], [[5, 4]])
    labels = list(zip(made.row.tolist(), made.token.tolist(), made.label.tolist(), strict=True))
    assert labels == [(0, 2, 40), (0, 3, 41), (0, 4, 42), (1, 2, 50), (1, 3, 51)]


def test_with_the_full_loss_prompt_tokens_count_for_both_answers():
    made = batch_layout.packed([PAIR], True, torch.float32)
    old = made.label[made.loss == 0].tolist()
    assert (old, made.label[made.loss == 1].tolist()) == ([2, 3, 40, 41, 42], [2, 3, 50, 51])
    assert made.token[made.loss == 1].tolist() == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("prompt", "answer", "pays"), [(14, 3, True), (4, 3, False), (9, 60, False)]
)
def test_packing_pays_for_prompts_longer_than_answers(prompt, answer, pays):
    row = Row(tuple(range(prompt + answer)), prompt)
    assert batch_layout.packing_pays(Pair(0, row, row)) == pays


def test_what_cannot_be_packed():
    model = tiny.model("mistral")  # its window is six tokens
    assert not batch_layout.can_pack(
        model, Pair(0, Row(tuple(range(9)), 7), Row(tuple(range(9)), 7))
    )
    model = tiny.model("llama")
    assert batch_layout.can_pack(model, PAIR)
    cut_elsewhere = Pair(0, PAIR.old, Row((1, 2, 9, 50), 3))
    assert not batch_layout.can_pack(model, cut_elsewhere)
    model.config._attn_implementation = "flash_attention_2"  # takes no mask of four axes
    assert not batch_layout.can_pack(model, PAIR)


def pairs_of(lengths: list[int]) -> list[Pair]:
    """Prompts of these lengths, answers of three tokens."""
    rows = [Row(tuple(range(1, n + 4)), n) for n in lengths]
    return [Pair(i, row, row) for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("launching", "packed", "separate"),
    [
        (0, [[0], [1]], [[2, 3], [4]]),  # one more batch where padding would be much
        (1, [[0, 1]], [[2, 3, 4]]),
        (1000, [], [[0, 1, 2, 3, 4]]),  # two passes over the blocks, not nine
    ],
)
def test_batches_where_launching_takes_time(monkeypatch, launching, packed, separate):
    model, pairs = tiny.model("llama"), pairs_of([60, 30, 4, 4, 1])
    monkeypatch.setattr(batch_layout, "launch_tokens", lambda model: launching)
    planned = batch_layout.plan_batches(model, pairs, ScoringOptions(), 4096)
    assert [batch.pairs for batch in planned if batch.packed] == packed
    assert [batch.pairs for batch in planned if not batch.packed] == separate


def test_a_launch_counts_on_a_device_only():
    assert batch_layout.launch_tokens(tiny.model("llama")) == 0
