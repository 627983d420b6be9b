"""Several ranks share the work: the result of one process, on all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from rank_threads import on_ranks

import lga_fast
from lga_fast import distributed
from lga_fast.errors import LostRank, NothingToScore, RanksError
from lga_fast.evaluation import evaluate as evaluating
from lga_fast.records import EditRequest
from lga_fast.selectors import estimate_selection_cost
from lga_fast.studies import sweep
from tests.conftest import KeepDouble
from tests.studies.facts import CHEAP, NO_SUBJECT
from tests.studies.facts import REQUESTS as EDITS

REQUESTS = tiny.REQUESTS


def models(size, family="gpt2"):
    return [tiny.model(family) for _ in range(size)]


def same(got, want):
    assert got.case_ids == want.case_ids and got.dropped == want.dropped
    for table in ("dot", "norm2_old", "norm2_new", "abs_new", "per_expert"):
        assert list(getattr(got, table)) == list(getattr(want, table))
        for name, values in getattr(want, table).items():
            np.testing.assert_allclose(getattr(got, table)[name], values, rtol=1e-12, atol=1e-18)
    for column in ("loss_old", "loss_new", "known", "says_new"):
        np.testing.assert_allclose(getattr(got, column), getattr(want, column), rtol=1e-12)


@pytest.mark.parametrize(("family", "size"), [("gpt2", 2), ("qwen2_moe", 2), ("gpt2", 7)])
def test_scores_of_ranks_are_those_of_one_process(family, size):
    def score(model):
        with KeepDouble():  # it holds for the thread that enters it
            return lga_fast.score_layers(model, REQUESTS, abs_new=True)

    one = score(tiny.model(family))
    for scores in on_ranks(models(size, family), score):
        same(scores, one)
        made = scores.provenance
        assert made["ranks"] == size
        assert made["sequence_forwards"] == one.provenance["sequence_forwards"]
    assert "ranks" not in one.provenance


def test_requests_without_an_old_answer_are_dropped_in_their_order(monkeypatch):
    rome = tiny.byte_level()("Rome")["input_ids"][0]

    def greedy(model, batches):
        return [[[] if p[0] == rome else [7] for p in prompts] for prompts, _ in batches]

    monkeypatch.setattr("lga_fast.forward.decoding.greedy_batches", greedy)
    requests = [
        EditRequest(str(n), ("Rome", "Paris")[n % 2] + " is" * n, "Ann") for n in (3, 2, 6, 1, 4)
    ]

    one = lga_fast.score_layers(tiny.model("gpt2"), requests)
    assert [dropped.case_id for dropped in one.dropped] == ["2", "6", "4"]
    for scores in on_ranks(models(2), lambda model: lga_fast.score_layers(model, requests)):
        same(scores, one)
    few = [r for r in requests if r.case_id in {dropped.case_id for dropped in one.dropped}]
    for error in on_ranks(models(2), lambda model: lga_fast.score_layers(model, few)):
        assert isinstance(error, NothingToScore) and len(error.dropped) == len(few)


def test_a_rank_without_requests_has_nothing_to_forecast():
    def planned(model):
        return estimate_selection_cost(model, REQUESTS[1:2])

    none, one = on_ranks(models(2), planned)
    assert none is None and one.facts == 1


def test_ranks_that_differ_are_refused_before_work():
    def score(model):
        return lga_fast.score_layers(model, REQUESTS[distributed.current().rank :])

    for error in on_ranks(models(2), score):
        assert isinstance(error, RanksError) and "the same requests on all ranks" in str(error)


@pytest.mark.parametrize("selector", ["cma", "race", "brute_force"])
def test_selectors_beside_scoring_share_their_work(selector, tmp_path):
    config = tmp_path / "cheap.json"
    config.write_text(json.dumps(CHEAP))
    options = {"samples": 2} if selector == "cma" else {"config": str(config)}

    def rank(model):
        return lga_fast.select_layer(model, [NO_SUBJECT, *EDITS], selector, **options)

    one = rank(tiny.model("gpt2"))
    for ranking in on_ranks(models(3), rank):
        np.testing.assert_allclose(ranking.scores, one.scores, rtol=1e-12)
        assert (ranking.order, ranking.dropped) == (one.order, one.dropped)
        assert ranking.provenance["ranks"] == 3
        forwards, of_one = (r.provenance["sequence_forwards"] for r in (ranking, one))
        assert forwards == pytest.approx(of_one)


def test_a_sweep_is_edited_layer_by_layer_and_written_by_the_first_rank(tmp_path):
    one = sweep(tiny.model("gpt2"), EDITS, chunk=2, **CHEAP)

    def swept(model):
        out = tmp_path / f"{distributed.current().rank}.npz"
        return sweep(model, EDITS, chunk=2, out=out, **CHEAP)

    for found in on_ranks(models(2), swept):
        for name, values in one.acc.items():
            np.testing.assert_allclose(found.acc[name], values, rtol=1e-12)
        assert [run["requests"] for run in found.provenance["runs"]] == [[0, 2], [2, 3]]
    assert [file.name for file in tmp_path.iterdir()] == ["0.npz"]


def evaluate(model, out, **options):
    return lga_fast.evaluate(model, EDITS, layer=1, chunk=1, out=out, **CHEAP, **options)


def untimed(results):
    times = ("seconds_edit", "seconds_measure", "peak_bytes")
    return [{name: v for name, v in vars(r).items() if name not in times} for r in results]


def test_an_evaluation_goes_on_from_what_ranks_left(tmp_path, monkeypatch):
    one, out = evaluate(tiny.model("gpt2"), None), tmp_path / "results.jsonl"
    each, asked = evaluating.Loop._measure, []

    def counted(loop, start, *more):
        asked.append(loop.requests[start].case_id)
        return each(loop, start, *more)

    def fails(loop, start, *more):
        if loop.requests[start].case_id == "b":
            raise OSError("disk full")
        return counted(loop, start, *more)

    monkeypatch.setattr(evaluating.Loop, "_measure", fails)
    first, failed, last = on_ranks(models(3), lambda model: evaluate(model, out))
    assert isinstance(first, LostRank) and isinstance(last, LostRank)
    assert str(failed) == "disk full"
    assert sorted(asked) == ["a", "c"]
    asked.clear()
    monkeypatch.setattr(evaluating.Loop, "_measure", counted)
    assert untimed(evaluate(tiny.model("gpt2"), out)) == untimed(one)
    assert asked == ["b"]
    assert [file.name for file in tmp_path.iterdir()] == [out.name]
    for found in on_ranks(models(2), lambda model: evaluate(model, out)):  # all is there
        assert untimed(found) == untimed(one)
    lines = [json.loads(line)["case_id"] for line in out.read_text().splitlines()[1:]]
    assert lines == ["a", "b", "c"]


def test_parts_that_killed_ranks_only_began_are_removed_too(tmp_path, monkeypatch):
    def fails(*args):
        raise OSError("disk full")

    out = tmp_path / "results.jsonl"
    with monkeypatch.context() as broken:
        broken.setattr(evaluating.Loop, "_measure", fails)
        on_ranks(models(2), lambda model: evaluate(model, out))
    assert len(list(tmp_path.iterdir())) > 1
    evaluate(tiny.model("gpt2"), out)
    assert list(tmp_path.iterdir()) == [out]


def test_modes_in_which_edits_follow_one_another_are_refused():
    for error in on_ranks(models(2), lambda model: evaluate(model, None, mode="sequential")):
        assert isinstance(error, RanksError) and "'sequential' runs in one process" in str(error)
