"""Benchmark scripts run on small sizes here, so that a lent device never meets a broken one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def test_the_gpu_scripts_check_passes_on_the_cpu():
    command = [sys.executable, "benchmarks/gpu.py", "--part", "check", "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "36 cases within the allowed error" in done.stdout


def test_the_selection_benchmark_compares_equal_scores(monkeypatch):
    from transformers import GPT2Config

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    selection = pytest.importorskip("selection")
    config = GPT2Config(vocab_size=100, n_embd=16, n_layer=3, n_head=2, attn_implementation="eager")
    row = selection.compare(config, "cpu", torch.float32, facts=3, repeats=2)
    assert row["largest_difference_in_layer_rms"] < 1e-4
    assert row["same_layer_ranking"]
    assert set(row["median_seconds"]) == {"ours", "paper", "mlp_only"}
