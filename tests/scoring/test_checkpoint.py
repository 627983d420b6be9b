"""A streamed pass that is killed goes on where it was, with the same bits in the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from both_placements import REQUESTS, assert_same_bits, both

from lga_fast import score_layers
from lga_fast.datasets import easyedit_requests
from lga_fast.forward import tensor_store
from lga_fast.scoring import checkpoint
from lga_fast.scoring.checkpoint import KeptAnswers
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import build_pairs

# Half a file is written, then the process is gone.
KILLED = """
import os, signal, sys
import lga_fast
from lga_fast.forward import tensor_store
folder, state, puts = sys.argv[1], sys.argv[2], int(sys.argv[3])
real, calls = tensor_store.save, []
def save(tensors):
    calls.append(tensors)
    if len(calls) == puts:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(tensors)
tensor_store.save = save
model = lga_fast.load(folder, device="cpu", weights="streamed")
sys.path.insert(0, sys.argv[4])
from both_placements import REQUESTS
lga_fast.score_layers(model, REQUESTS, batch_tokens=60, resume=state)
"""


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def test_it_goes_on_after_every_block(tmp_path, monkeypatch):
    resident, streamed = both(tmp_path / "model", tiny.model("gemma2", torch.float32))
    want = score_layers(resident, REQUESTS, batch_tokens=60)
    runner = streamed.block_runner()
    state, real, ran = tmp_path / "state", runner.run, []

    def failing(layer, *rest):
        if ran and ran[-1] != layer and len(set(ran)) == 2:
            raise Interrupted
        ran.append(layer)
        return real(layer, *rest)

    streamed.fingerprint()
    attempts, found = 0, None
    while found is None:
        ran.clear()
        attempts += 1
        with monkeypatch.context() as patch:
            # Old answers run all blocks; a kill among them is for their own beginning again.
            if (state / "pairs.json").exists():
                patch.setattr(runner, "run", failing)
            try:
                found = score_layers(streamed, REQUESTS, batch_tokens=60, resume=state)
            except Interrupted:
                assert ran and attempts < 12
        if attempts == 1 and found:  # the first one had no interruption: begin again
            (state / "gradient-0.zip").unlink()
            found = None
    assert attempts >= 5
    assert_same_bits(found, want)
    assert sorted(file.name for file in state.iterdir()) == [
        *("batches.json", "gradient-0.zip", "pairs.json", "run.json")
    ]
    before = streamed.shards.bytes_read
    assert_same_bits(score_layers(streamed, REQUESTS, batch_tokens=60, resume=state), want)
    assert streamed.shards.bytes_read == before  # what is finished is there


def test_sigkill_in_the_middle_of_a_file(tmp_path):
    """While blocks run forward, and again while they run backward."""
    folder, state = tmp_path / "model", tmp_path / "state"
    resident, streamed = both(folder, tiny.model("mixtral", torch.float32))
    for puts, kind in ((5, "entering"), (35, "gradient")):
        command = [sys.executable, "-c", KILLED, folder, state, puts, Path(__file__).parent.parent]
        killed = subprocess.run([str(part) for part in command], capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
        assert any(file.name.startswith(f".{kind}") for file in state.glob("*.zip"))
    assert_same_bits(
        score_layers(streamed, REQUESTS, batch_tokens=60, resume=state),
        score_layers(resident, REQUESTS, batch_tokens=60),
    )
    assert not any(file.name.startswith((".", "answers")) for file in state.iterdir())


@pytest.mark.parametrize("family", ["gemma2", "qwen3_moe"])
def test_old_answers_go_on_with_the_group_that_was_being_decoded(family, tmp_path, monkeypatch):
    """Several groups of batches: a finished one is kept, the one that was killed begins again."""
    resident, streamed = both(tmp_path / "model", tiny.model(family, torch.float32))
    requests = [replace(r, target_old=None) for r in REQUESTS for _ in range(2)]
    left = 24 * streamed.memory.token_bytes() + 60 * streamed.memory.cache_bytes
    streamed.memory_budget = streamed.memory.weights_bytes + left * 4 // 3 + 9
    options = ScoringOptions(batch_tokens=24)
    want = build_pairs(resident, requests, options)
    state, readings, limit, runner = tmp_path / "state", [], 10**6, streamed.block_runner()
    real = runner.head

    def ending():
        readings.append(1)
        if len(readings) > limit:
            raise Interrupted
        return real()

    monkeypatch.setattr(runner, "head", ending)
    assert build_pairs(streamed, requests, options) == want
    whole, limit, found = len(readings), 0, None
    while found is None:
        readings.clear()
        limit += 1
        with suppress(Interrupted):
            kept = checkpoint.RunCheckpoint(state, streamed, easyedit_requests(requests), options)
            found = kept.pairs(partial(build_pairs, streamed, requests, options))
    assert found == want and 1 < limit < whole  # no attempt had time for all groups
    assert sorted(file.name for file in state.iterdir()) == ["pairs.json", "run.json"]


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_old_answers_go_on_when_memory_runs_out(weights, tmp_path, monkeypatch):
    models = both(tmp_path / "model", tiny.model("llama", torch.float32))
    model = models[weights == "streamed"]
    requests = [replace(r, target_old=None) for r in REQUESTS for _ in range(2)]
    want, real, rows = build_pairs(models[0], requests), model.logits_at, []

    def limited(ids, *rest, **more):
        rows.append(len(ids))
        if len(ids) > 1:
            raise torch.OutOfMemoryError("too much")
        return real(ids, *rest, **more)

    monkeypatch.setattr(model, "logits_at", limited)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if weights == "streamed":
            kept = KeptAnswers(tmp_path)
            got = build_pairs(model, requests, generate=kept.generate)
            assert kept.left and kept.left != [[list(range(8))]]
        else:
            got = build_pairs(model, requests)
    told = [str(w.message) for w in caught if "out of memory" in str(w.message)]
    assert got == want and len(told) == 1 and "while old answers are made" in told[0]
    with pytest.raises(torch.OutOfMemoryError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr(model, "logits_at", lambda *a, **k: limited([1, 2]))
        build_pairs(model, requests)


@pytest.mark.parametrize("gap", [False, True])
def test_a_kill_between_keeping_and_dropping(gap, tmp_path, monkeypatch):
    resident, streamed = both(tmp_path / "model", tiny.model("gpt2", torch.float32))
    state, real = tmp_path / "state", tensor_store.DiskStore.drop

    def killed(self, name):
        if name == "entering-2":
            raise Interrupted
        real(self, name)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(tensor_store.DiskStore, "drop", killed)
        score_layers(streamed, REQUESTS, batch_tokens=60, resume=state)
    assert {"entering-0.zip", "entering-2.zip", "gradient-2.zip", "gradient-3.zip"} <= {
        file.name for file in state.iterdir()
    }
    if gap:  # as a kill leaves it while all sets are dropped
        (state / "entering-1.zip").unlink()
    assert_same_bits(
        score_layers(streamed, REQUESTS, batch_tokens=60, resume=state),
        score_layers(resident, REQUESTS, batch_tokens=60),
    )
    assert sorted(file.name for file in state.iterdir()) == [
        *("batches.json", "gradient-0.zip", "pairs.json", "run.json")
    ]


def test_one_batch_at_a_time_is_kept(tmp_path):
    """Tensors of a set are taken while they are made, and the set is there with its last one."""
    for kept in (tensor_store.MemoryStore(), tensor_store.DiskStore(tmp_path)):
        made = []

        def one_by_one(made=made, kept=kept):
            for i in range(3):
                assert not kept.names()
                made.append(torch.full((2, i), i, dtype=torch.bfloat16))
                yield str(i), made[-1]

        kept.put("entering-4", one_by_one())
        assert kept.names() == ["entering-4"] and list(kept.get("entering-4")) == ["0", "1", "2"]
        assert all(torch.equal(kept.get("entering-4")[str(i)], made[i]) for i in range(3))
        kept.drop("entering-4")
        assert not kept.names()
