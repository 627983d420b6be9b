"""Ranks: who does what, on which machine, under torchrun; and an end when one of them dies."""

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

import lga_fast
from lga_fast import distributed
from lga_fast.commands import _inputs
from lga_fast.datasets import write_jsonl
from lga_fast.distributed import Ranks
from lga_fast.errors import RanksError
from lga_fast.records import EditRequest

TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "lga_fast"]


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
        _inputs.load_model("atlas", "auto")


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
    write_jsonl(tiny.REQUESTS, path / "facts.jsonl")
    long = EditRequest("long", "The capital of France is " * 40, "Rome")
    write_jsonl([*tiny.REQUESTS, long], path / "long.jsonl")
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
    assert time.monotonic() - started < 300  # not for days


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
