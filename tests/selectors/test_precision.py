"""The same layer in every dtype, at every run and with any number of threads; or a note."""

from __future__ import annotations

import warnings

import pytest
import tiny
import torch

import lga_fast
from lga_fast.errors import ScoringError
from lga_fast.records import LayerRanking
from lga_fast.selectors import _precision
from tests.evaluation.runs import REQUESTS

LOW = (torch.bfloat16, torch.float16)
SAID = "nother dtype"


def choose(family, dtype, selector="lga", change=None, requests=tiny.REQUESTS, **options):
    model = tiny.model(family, dtype)
    if change:
        with torch.no_grad():
            change(model.hf)
    with warnings.catch_warnings(action="ignore"):
        return lga_fast.select_layer(model, requests, selector=selector, **options)


def said(ranking):
    return any(SAID in note for note in ranking.notes)


@pytest.mark.parametrize("family", tiny.names())
def test_the_same_layer_in_every_dtype_or_a_note(family):
    try:
        wide = choose(family, torch.float32, bootstrap=0)
    except ScoringError as error:  # refused is no answer either
        pytest.skip(str(error))
    for dtype in LOW:
        try:
            low = choose(family, dtype, bootstrap=0)
        except ScoringError:
            continue
        assert low.layer == wide.layer or said(low), (dtype, low.layer, wide.layer, low.notes)


@pytest.mark.parametrize("selector", ("reach", "cma", "lga_new", "salem"))
@pytest.mark.parametrize("family", ("gpt2", "llama", "qwen3"))
def test_other_selectors_too(family, selector):
    options = {"samples": 2} if selector == "cma" else {}
    wide = choose(family, torch.float32, selector, requests=REQUESTS[:3], **options)
    for dtype in LOW:
        low = choose(family, dtype, selector, requests=REQUESTS[:3], **options)
        assert low.layer == wide.layer or said(low), (dtype, low.layer, wide.layer, low.notes)


@pytest.mark.parametrize("family", ("gpt2", "llama"))
def test_huge_logits_are_said(family):
    def louder(hf):
        norm = hf.transformer.ln_f if family == "gpt2" else hf.model.norm
        norm.weight.mul_(100)

    ranking = choose(family, torch.bfloat16, change=louder, bootstrap=0)
    assert any("nats come from logits that bfloat16 rounds" in note for note in ranking.notes)
    assert not any(
        "nats come from" in note for note in choose(family, torch.bfloat16, bootstrap=0).notes
    )


@pytest.mark.parametrize(("gap", "noted"), [(1e-3, True), (0.5, False), (0.0, False)])
def test_a_near_tie_is_said(gap, noted):
    about = {"dtype": "bfloat16"}
    ranking = LayerRanking(1, "cma", (0.1, 1.0, 1.0 - gap), (1, 2, 0), provenance=about)
    notes = _precision.near_tie(ranking)
    assert bool(notes) == noted
    assert not notes or "Layers 1 and 2 are as close as bfloat16 rounds" in notes[0]


def test_float32_says_nothing_of_choices_that_are_firm():
    assert not said(choose("gpt2", torch.float32))


def test_an_overflow_in_float16_is_refused():
    def larger(hf):
        for block in hf.transformer.h:
            block.mlp.c_proj.weight.fill_(6e4)

    with pytest.raises(ScoringError, match="finite"):
        choose("gpt2", torch.float16, change=larger)


@pytest.mark.parametrize("selector", ("lga", "reach"))
def test_twenty_runs_and_one_or_two_threads_choose_the_same(selector):
    model, threads, scores = tiny.model("llama", torch.float32), torch.get_num_threads(), []
    try:
        for run in range(20):
            torch.set_num_threads(1 + run % 2)
            ranking = lga_fast.select_layer(model, REQUESTS[:3], selector=selector)
            scores.append((run % 2, ranking.layer, ranking.order, ranking.scores))
    finally:
        torch.set_num_threads(threads)
    assert len({one[1] for one in scores}) == 1
    for count in (0, 1):  # with as many threads: the same bits
        assert len({one[1:] for one in scores if one[0] == count}) == 1
