"""`lga-fast select` with weights that are read while they are used."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from running import run

import lga_fast
from lga_fast.cli import main
from lga_fast.streaming.streamed_model import StreamedModel


def test_streamed_weights_choose_as_resident_ones(saved_model, facts, tmp_path):
    where = ("select", "--model", saved_model, "--data", facts, "--proxy", 3, "--json")
    where += ("--selector", "lga,lga_new,salem")
    resident = json.loads(run(*where))
    state = tmp_path / "state"
    more = ("--weights", "streamed", "--memory-budget", "1GiB", "--resume", state)
    for name, ranking in json.loads(run(*where, *more)).items():
        assert ranking["layer"] == resident[name]["layer"]
        assert ranking["scores"] == resident[name]["scores"]
    assert (state / "gradient-0.zip").is_file()


def test_the_plan_alone(saved_model, facts):
    where = ("select", "--model", saved_model, "--data", facts, "--proxy", 3, "--plan")
    text = run(*where, "--weights", "streamed")
    assert "streamed weights: facts 3, batches 1," in text and "golden" not in text
    assert "2 sweeps over the blocks and 2 for old answers" in text
    assert "at most; the memory budget is" in run(*where)
    text = run(*where, "--selector", "lga,race")
    assert "not included: what race does besides scoring" in text
    where += ("--selector", "random_layer", "--weights", "streamed")
    assert "There is no scoring pass to plan" in run(*where)
    found = CliRunner().invoke(main, [str(part) for part in where if part != "--plan"])
    assert found.exit_code == 0 and "to plan" not in found.stderr


@pytest.mark.parametrize(
    ("budget", "placed", "why"),
    [
        ("1GiB", "resident", "they take 0 MiB, the memory budget is 1024 MiB"),
        ("20KiB", "streamed", "they take 0 MiB, the memory budget is 0 MiB"),
        (None, "resident", "they take 0 MiB, half the free memory is "),
    ],
)
def test_auto_says_why(budget, placed, why, saved_model):
    model = lga_fast.load(saved_model, device="cpu", weights="auto", memory_budget=budget)
    assert isinstance(model, StreamedModel) == (placed == "streamed")
    assert model.placement.startswith(f"weights: {placed}, {why}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--memory-budget", "1MiB"), "expected memory for streaming its weights, got 1.0 MiB"),
    ],
)
def test_what_does_not_go_says_why(options, message, saved_model, facts):
    where = ("select", "--model", saved_model, "--data", facts, "--proxy", 3)
    assert message in " ".join(run(*where, "--weights", "streamed", *options, ok=False).split())
