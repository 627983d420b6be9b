"""Benchmark scripts run on small sizes here, so that a lent device never meets a broken one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from running import run
from transformers import GPT2Config

from benchmarks import gpu_tables
from benchmarks.gpu import PARTS

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif("LGA_FAST_NO_EXT" in os.environ, reason="rehearsed with the kernels")
def test_every_part_of_the_gpu_script_is_rehearsed(tmp_path, monkeypatch):
    """So that nothing but speed is new on a device."""
    command = [sys.executable, "benchmarks/gpu.py", "--rehearse", "--out", str(tmp_path / "here")]
    environment = os.environ | {"OUT": str(tmp_path / "there")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for folder in ("here", "there"):
        files = (tmp_path / folder).glob("gpu_*.json")
        results = {file.stem: json.loads(file.read_text()) for file in files}
        assert set(results) == {f"gpu_{part}" for part in PARTS}
    for result in results.values():
        assert result["environment"]["kernels"] and result["rows"]
        assert not any("failed" in row for row in result["rows"])
    assert (tmp_path / "there" / "trace.json.gz").stat().st_size
    checked = results["gpu_check"]["rows"]
    assert len(checked) == 36 and all(row["right"] for row in checked)
    targets = [row for row in results["gpu_targets"]["rows"] if "way" in row]
    assert len(targets) == 6 and all(row["differs_in_layer_rms"] < 0.2 for row in targets)
    monkeypatch.setattr(gpu_tables, "results", lambda name: results[name])
    monkeypatch.setattr(gpu_tables, "source", lambda name, command: f"\n{command}\n")
    assert [line for line in gpu_tables.gpu().splitlines() if line.startswith("python")] == [
        f"python benchmarks/gpu.py --part {part}"
        for part in ("targets", "kernels", "editing", "study", "streamed")
    ]


def test_what_a_pass_asks_of_a_device_is_counted_without_one(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    counts = pytest.importorskip("gpu_counts")
    requests = counts.selection.requests_of([[14, 3, 2]] * 70, 400)
    launches = {}
    for name, config in counts.shapes(small=True).items():
        model = counts.selection.model_of(config, "meta", torch.bfloat16)
        row = counts.count(model, requests)
        assert row["batches"] == 1  # a tiny model is launched for longer than it computes
        matrices = len(model.matrices())
        assert row["grad_dot_launches"] == matrices * (1 + 3 * 2)  # 64 pairs, and the other 6
        # both rows of a pair; a last token is not run, and the last MLP only where the head reads
        last = model.layers - 1
        sizes = [(3 + 2 if key[0] == last else 15 + 16, key) for key in model.matrices()]
        sides = [(tokens, sum(model.shape(*key))) for tokens, key in sizes]
        assert row["grad_dot_bytes"] == 70 * sum(t * side for t, side in sides) * 2
        pairs = 70 * sum(t * (t + 1) // 2 * side for t, side in sides)
        assert row["grad_dot_multiply_adds"] == pairs
        launches[name] = row["launches"]
    assert launches["gpt2"] < launches["llama"] < launches["gemma3"]


def test_a_part_that_fails_leaves_a_row_and_the_next_one_begins(tmp_path):
    environment = os.environ | {"PATH": "", "LGA_FAST_NO_EXT": "1"}  # no device, no kernels
    command = [sys.executable, "benchmarks/gpu.py", "--out", str(tmp_path)]
    command += ["--part", "ceilings", "--part", "sanitize"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    (row,) = json.loads((tmp_path / "gpu_ceilings.json").read_text())["rows"]
    assert row["failed"] == "exit code 1" and "CUDA" in row["stderr"]
    (row,) = json.loads((tmp_path / "gpu_sanitize.json").read_text())["rows"]
    assert row["ran"] is False


def test_the_selection_benchmark_compares_equal_scores(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    selection = pytest.importorskip("selection")
    config = GPT2Config(vocab_size=100, n_embd=16, n_layer=3, n_head=2, attn_implementation="eager")
    row = selection.compare(config, "cpu", torch.float32, facts=3, repeats=2)
    assert row["largest_difference_in_layer_rms"] < 1e-4
    assert row["same_layer_ranking"]
    assert set(row["median_seconds"]) == {"ours", "paper", "mlp_only"}


def test_the_peers_benchmark_compares_equal_scores(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    peers = pytest.importorskip("peers")
    # dattri-llm would have to be downloaded.
    monkeypatch.setattr(peers, "Dattri", lambda model: peers.selection.mlp_only)
    shape = GPT2Config(vocab_size=100, n_embd=16, n_layer=3, n_head=2)
    row = peers.compare(shape, facts=3, prompt=6, answer=2, repeats=2)
    assert 1e-4 < row["differ_in_layer_rms"].pop("bfloat16") < 1
    assert max(row["differ_in_layer_rms"].values()) < 1e-4
    assert set(row["differ_in_layer_rms"]) == {"ours", "dattri", "paper"}
    ways = {"ours", "dattri", "paper", "two_forwards", "bfloat16"}
    assert set(row["median_cpu_seconds"]) == ways
    assert row["times_two_forwards"]["min"] > 0 < row["times_faster_than_dattri"]["min"]


def test_the_editing_benchmark_compares_equal_changes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    editing = pytest.importorskip("editing")
    shape = GPT2Config(vocab_size=4096, n_embd=16, n_layer=3, n_head=2)
    monkeypatch.setattr(editing, "HOW", replace(editing.HOW, steps=3))
    row = editing.compare(torch.float32, repeats=1, config=shape, layer=1)
    assert max(row["difference_of_change_to_usual"].values()) < 1e-4
    assert row["requests"] == 16 and set(row["median_seconds_per_edit"]) == {
        "batch",
        "single",
        "plain",
        "usual",
    }


def test_the_streamed_benchmark_reads_each_block_twice(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    streamed = pytest.importorskip("streamed")
    # In this process, whose memory and reading then are not the pass's alone.
    monkeypatch.setattr(streamed, "_child", streamed.score)
    row = streamed.measure(streamed.shape(3, 64, 96, 500), "1GiB", facts=3, resident=True)
    assert row["same_bits_as_resident"] and row["block_reads"] == 6
    rows_and_fingerprint = 30_000
    assert 0 <= row["bytes_read_by_our_count"] - row["bytes_needed"] < rows_and_fingerprint
    assert row["checkpoint_bytes"] > 0 < row["peak_anonymous_bytes"]


def test_the_streamed_benchmark_of_a_device_knows_what_binds(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    streamed_cuda = pytest.importorskip("streamed_cuda")
    shape = pytest.importorskip("streamed").shape(3, 64, 96, 500)
    rows = streamed_cuda.measure(shape, 1 << 30, facts=3, device="cpu")
    assert [row["source"] for row in rows] == ["disk", "memory"]
    for row in rows:
        assert row["largest_difference_in_layer_rms"] < 1e-6
        assert row["seconds_of_each_bound"][row["binds"]] == pytest.approx(
            row["share_of_the_bound"] * row["seconds"]
        )


def test_the_ranks_benchmark_compares_equal_scores(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    ranks = pytest.importorskip("ranks")

    def in_this_process(command, **_):  # several ones: tests/test_distributed.py
        text = run(*command[command.index("select") :])
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(ranks, "subprocess", SimpleNamespace(run=in_this_process))
    monkeypatch.setattr(ranks, "products", float)
    shape = GPT2Config(vocab_size=4096, n_embd=16, n_layer=3, n_head=2)
    row = ranks.compare(shape, facts=3, ranks=2, repeats=1)
    assert row["same_layer"] and row["same_order"] and row["facts"] == 3
    assert row["largest_relative_difference"] == 0
    assert set(row["times_faster"]) == {"scoring", "answering_and_scoring", "command"}
    assert row["products_times_more"]["median"] == 2


def test_a_real_sweep_is_the_same_by_two_processes(tmp_path):
    sweep = ["benchmarks/real_sweep.py", "atlas", "atlas", "-"]
    options = ["--facts", "3", "--cheap", "--also", "rome", "--chunk", "1"]
    starts = {"one": [], "two": ["-m", "torch.distributed.run", "--nproc-per-node", "2"]}
    swept = []
    for name, start in starts.items():
        out = tmp_path / f"{name}.npz"
        done = subprocess.run(
            [sys.executable, *start, *sweep, str(out), *options],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert out.with_suffix(".json").exists()
        swept.append([np.load(out.with_stem(name + kind))["acc"] for kind in ("", "_rome")])
    for one, two in zip(*swept, strict=True):
        assert not np.isnan(one[0]).any()
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_choices_on_fresh_facts_resume_and_avoid_the_swept_ones(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    fresh_draws = pytest.importorskip("fresh_draws")
    monkeypatch.setattr(fresh_draws, "SELECTORS", ("salem",))
    monkeypatch.setattr(fresh_draws, "PROXY", 3)
    sweep = ROOT / "benchmarks/results/sweeps/atlas.npz"
    swept = fresh_draws.read(sweep).case_ids
    seen, choose = [], fresh_draws.choice

    def chosen(model, facts, selector):
        seen.append([fact.case_id for fact in facts])
        return choose(model, facts, selector)

    monkeypatch.setattr(fresh_draws, "choice", chosen)
    out = tmp_path / "fresh.json"
    monkeypatch.setattr("sys.argv", ["", str(out), f"atlas=atlas,atlas,-,{sweep}"])
    for draws in (1, 2):
        monkeypatch.setattr(fresh_draws, "DRAWS", draws)
        fresh_draws.main()
    assert len(seen) == 2 and seen[0] != seen[1]
    assert all(len(facts) == 3 and not set(facts) & set(swept) for facts in seen)
    judged = json.loads(out.read_text())["pairs"]["atlas"]["selectors"]["salem"]
    assert len(judged["layers"]) == 2
    assert 0 <= judged["rewrite"]["value"] <= judged["rewrite"]["worst"] <= 1


def test_held_out_facts_see_through_a_best_layer_of_chance(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    layer_choice = pytest.importorskip("layer_choice")
    random = np.random.default_rng(0)
    table = random.normal(size=(400, 20))  # no layer is better than another,
    table[:, 3] -= 0.5  # but one is worse
    draws = [random.permutation(400)[:300] for _ in range(10)]
    best = [int(table[draw].mean(0).argmax()) for draw in draws]
    rows = {name: {"layers": layers} for name, layers in (("brute_force", best), ("3", [3] * 10))}
    rows["0"] = {"layers": [0] * 10}
    regret = layer_choice.regrets({"rewrite": table}, [(0, 0.0)])["rewrite"]
    found = layer_choice.held_out(table, draws, rows, "brute_force")
    assert found["brute_force"] == {"value": 0, "low": 0, "high": 0}
    assert found["0"]["low"] < 0 < found["0"]["high"]
    assert 0.2 < found["3"]["low"] < 0.5 < found["3"]["high"]
    assert regret["low"] > 0
