"""Several ranks: the result of one process, on all of them; and an end when one of them dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from rank_threads import on_ranks

import lga_fast
from lga_fast import distributed
from lga_fast.commands import _inputs
from lga_fast.datasets import write_jsonl
from lga_fast.distributed import Ranks
from lga_fast.errors import LostRank, NothingToScore, RanksError
from lga_fast.evaluation import evaluate as evaluating
from lga_fast.records import EditRequest
from lga_fast.selectors import estimate_selection_cost
from lga_fast.studies import sweep
from tests.conftest import _KeepDouble as KeepDouble
from tests.studies.facts import CHEAP, NO_SUBJECT
from tests.studies.facts import REQUESTS as EDITS

TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "lga_fast"]
REQUESTS = tiny.REQUESTS


# -- who does what -----------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["balanced_shard", "contiguous_shard"])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_item_is_one_ranks_and_loads_are_even(way, size):
    costs = np.random.default_rng(0).integers(5, 60, 100).tolist()
    shares = [getattr(Ranks(rank, size), way)(costs) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == list(range(100))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(costs[item] for item in share) for share in shares]
    assert max(loads) <= sum(costs) / size + max(costs)
    if way == "balanced_shard":  # of like lengths
        ends = [(max(few), min(few)) for few in ([costs[i] for i in share] for share in shares)]
        assert all(a[1] >= b[0] for a, b in pairwise(ends))


def test_stretches_are_of_neighbours_and_few_items_leave_ranks_without():
    shares = [Ranks(rank, 3).contiguous_shard([1, 1, 1, 1, 1, 4]) for rank in range(3)]
    assert shares == [[0, 1, 2], [3, 4], [5]]
    for way in ("balanced_shard", "contiguous_shard"):
        assert sum(len(getattr(Ranks(rank, 4), way)([7, 7])) for rank in range(4)) == 2
        assert getattr(Ranks(3, 4), way)([]) == []


# -- the same result ---------------------------------------------------------------------------
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


@pytest.mark.parametrize("selector", ["cma", "lga_verified", "brute_force"])
def test_selectors_beside_scoring_share_their_work(selector, tmp_path):
    config = tmp_path / "cheap.json"
    config.write_text(json.dumps(CHEAP))
    options = {"share": 0.6, "k": 3} if selector == "lga_verified" else {}
    options |= {"samples": 2} if selector == "cma" else {"config": str(config)}

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


def test_another_number_of_ranks_does_not_go_on_in_silence(tmp_path):
    assert Ranks().folder(tmp_path) == tmp_path
    mine = Ranks(1, 2).folder(tmp_path)
    mine.mkdir()
    assert Ranks(1, 2).folder(tmp_path) == mine
    for others in (Ranks(), Ranks(1, 12)):
        with pytest.raises(RanksError, match="or an empty folder, got 'rank-1-of-2'"):
            others.folder(tmp_path)
    (alone := tmp_path / "alone").mkdir()
    (alone / "run.json").touch()
    assert Ranks().folder(alone) == alone
    with pytest.raises(RanksError, match="2 processes, or an empty folder, got 'run.json'"):
        Ranks(0, 2).folder(alone)


def test_ranks_of_one_machine_share_it(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    few = [Ranks(rank, 5) for rank in range(5)]
    for ranks in few:
        ranks.set_hosts(["a", "b", "a", "b", "b"])
    assert [ranks.local_world_size for ranks in few] == [2, 3, 2, 3, 3]
    assert Ranks().local_world_size == 1
    assert [ranks.device for ranks in few[:4]] == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    with pytest.raises(RanksError, match="rank 4 is number 3 on its machine, which has 2"):
        str(few[4].device)


# -- what is refused, and an end -----------------------------------------------------------------
def test_what_needs_one_process_says_so(monkeypatch):
    monkeypatch.setattr(distributed, "current", lambda: Ranks(1, 2))
    with pytest.raises(RanksError, match="lga-fast study runs in one process, got 2: --jobs N"):
        _inputs.refuse_ranks("study", "--jobs N")
    with pytest.raises(RanksError, match="start lga-fast without torchrun"):
        _inputs.load_model("atlas", "auto", None, None)


def torchrun(*arguments):
    done = subprocess.run(
        [sys.executable, *TORCHRUN, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved")
    model = tiny.model("gpt2")
    model.hf.save_pretrained(path / "model")
    model.tokenizer.save_pretrained(path / "model")
    write_jsonl(REQUESTS, path / "facts.jsonl")
    long = EditRequest("long", "The capital of France is " * 40, "Rome")
    write_jsonl([*REQUESTS, long], path / "long.jsonl")
    return path


def test_torchrun_selects_as_one_process(saved, tmp_path):
    where = ("select", "--model", saved / "model", "--data", saved / "facts.jsonl")
    where += ("--device", "cpu", "--selector", "lga,salem", "--json", "--out", tmp_path)
    code, text, errors = torchrun(*where)
    assert code == 0, errors
    model = lga_fast.load(saved / "model", device="cpu")
    facts = lga_fast.load_edits("jsonl", saved / "facts.jsonl")
    one = lga_fast.select_layer(model, facts, ["lga", "salem"], seed=42)
    for name, ranking in json.loads(text).items():
        assert ranking["layer"] == int(one[name]) and ranking["provenance"]["ranks"] == 2
        np.testing.assert_allclose(ranking["scores"], one[name].scores, rtol=1e-12)
    assert len(list(tmp_path.iterdir())) == 6


def test_an_error_of_one_rank_ends_the_run(saved):
    where = ("select", "--model", saved / "model", "--data", saved / "long.jsonl")
    started = time.monotonic()
    code, text, errors = torchrun(*where, "--device", "cpu")
    assert code != 0 and not text
    assert errors.count("request 'long': prompt and answer take") == 1
    assert time.monotonic() - started < 60


DYING = """
import os, signal, sys
from lga_fast import distributed
from lga_fast.errors import LostRank
try:
    with distributed.ranks() as ranks:
        ranks.gather(0)
        if ranks.rank == 1 and sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        assert ranks.rank != 1
        ranks.gather(0)
except LostRank as error:
    sys.exit(f"{type(error).__name__}: {error}")
except AssertionError:
    sys.stdin.read()  # as a notebook goes on after an error
"""


@pytest.mark.parametrize(("how", "code"), [("killed", -9), ("leaves", 0)])
def test_a_rank_that_ends_is_noticed_without_torchrun(how, code):
    port = str(torch.distributed.TCPStore("localhost", 0, is_master=True).port)
    about = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "3"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DYING, how],
            env=os.environ | about | {"RANK": str(rank), "LGA_FAST_NO_EXT": "1"},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    errors = {rank: processes[rank].communicate(timeout=60)[1] for rank in (0, 2, 1)}
    assert [process.returncode for process in processes] == [1, code, 1]
    for rank in (0, 2):
        assert "LostRank: another of the 3 ranks ended" in errors[rank]
