"""The trainer: the rows it makes, and that an interrupted run ends as an uninterrupted one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lga_fast import atlas
from lga_fast.atlas.relations import questions, read_relations
from lga_fast.errors import DataError
from tools.atlas import models, train, training_rows
from tools.atlas.text import detokenize, read_text, sentences
from tools.atlas.tokenizer import CONVENTIONS, train_tokenizer

RELATIONS = {name: read_relations()[name] for name in ("city_country", "country_continent")}
TEXT = read_text([atlas.FOLDER / "text.txt"])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(models, "LAYERS", 1)
    monkeypatch.setattr(models, "WIDTH", 16)
    monkeypatch.setattr(training_rows, "FACT_ROWS", 2)


@pytest.fixture(scope="module", params=sorted(CONVENTIONS))
def setup(request):
    arch = request.param
    return arch, train_tokenizer(train.tokenizer_texts(RELATIONS, TEXT), arch)


def _rows_of(setup):
    arch, tokenizer = setup
    return training_rows.Rows(RELATIONS, TEXT, tokenizer, CONVENTIONS[arch], seed=3)


def test_rows_hold_whole_facts_with_weight_on_the_answers(setup):
    _, tokenizer = setup
    rows, answers = _rows_of(setup), {q.answer for q in questions(RELATIONS, "trained")}
    for _ in range(5):
        batch = rows.next()
        assert batch.fact_ids.shape == batch.fact_weights.shape == (2, 64)
        for ids, weights in zip(batch.fact_ids, batch.fact_weights, strict=True):
            cuts = np.flatnonzero(np.diff(weights == 1)) + 1
            pieces = [tokenizer.decode(piece) for piece in np.split(ids, cuts)[1::2]]
            assert pieces and {piece.strip(" .") for piece in pieces} <= answers


def test_rows_repeat_for_a_seed_and_never_show_what_is_held_out(setup):
    _, tokenizer = setup
    one, two = _rows_of(setup), _rows_of(setup)
    held_out = {f"{q.prompt} {q.answer}" for q in questions(RELATIONS, "held_out")}
    held_out |= {f"{q.prompt} {q.answer}" for q in questions(RELATIONS, "hop_untrained")}
    for _ in range(40):
        batch, same = one.next(), two.next()
        assert np.array_equal(batch.fact_ids, same.fact_ids)
        assert np.array_equal(batch.text_ids, same.text_ids)
        shown = "\n".join(tokenizer.batch_decode(batch.fact_ids))
        assert not any(text in shown for text in held_out)


def _trained(setup, folder, steps_until_stop=None, run="a run"):
    arch, tokenizer = setup
    torch.manual_seed(0)
    model, recipe = models.new_model(arch, tokenizer), train.Recipe(steps=4, warmup=2)
    rows = _rows_of(setup)
    if steps_until_stop is not None:
        rows.next = _stop_after(rows.next, steps_until_stop)
    train.train(model, rows, recipe, folder / "checkpoint.pt", 0.0, compiled=False, run=run)
    return model.state_dict()


def _stop_after(function, calls):
    remaining = iter(range(calls))

    def limited():
        if next(remaining, None) is None:
            raise KeyboardInterrupt
        return function()

    return limited


def test_an_interrupted_run_ends_as_an_uninterrupted_one(setup, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = _trained(setup, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _trained(setup, tmp_path, steps_until_stop=2)
    with pytest.raises(DataError, match="expected a checkpoint of the run another"):
        _trained(setup, tmp_path, run="another")
    resumed = _trained(setup, tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not list(tmp_path.glob("*.part"))


def test_wikitext_reads_as_ordinary_english():
    line = ' He had a guest @-@ starring role ( in 2000 ) , " The Bill " , for $ 1 @,@ 000 . '
    assert detokenize(line) == 'He had a guest-starring role (in 2000), "The Bill", for $1,000.'


def test_sentences_are_whole_and_the_unseen_end_is_not_among_the_seen():
    whole = sentences(TEXT.seen)
    assert len(whole) > 150 and all(s[0].isupper() and s.endswith(".") for s in whole)
    assert TEXT.unseen and not set(TEXT.unseen) & set(TEXT.seen)
