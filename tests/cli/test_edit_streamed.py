"""`lga-fast edit` and `evaluate` with weights that are read while they are used."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from running import run

import lga_fast
from lga_fast.cli import main
from tests.models.edits import bits

QUICK = ("--layer", 1, "--steps", 3, "--contexts", "Berlin. ", "--dtype", "float32")
STREAMED = ("--weights", "streamed", "--memory-budget", "1GiB")


def test_an_edit_is_the_resident_one_and_its_cost_is_said_before(saved_model, facts, tmp_path):
    where = ("edit", "--model", saved_model, "--data", facts, "--limit", 1, *QUICK, "--json")
    merged, out = tmp_path / "merged", tmp_path / "out"
    resident = json.loads(run(*where, "--out", tmp_path / "resident"))
    arguments = map(str, (*where, *STREAMED, "--out", out, "--merge", merged))
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    said, found = result.stderr, json.loads(result.stdout)
    assert "editing 1 fact at layer 1 with streamed weights, all at once: up to 3 steps" in said
    for name in ("before", "after"):
        assert found[name].keys() == resident[name].keys()
        for metric, value in resident[name].items():
            assert found[name][metric]["mean"] == pytest.approx(value["mean"])
    model = lga_fast.load(saved_model, device="cpu", dtype="float32")
    with model.edited(lga_fast.WeightEdit.load(out / "edit.safetensors")):
        wanted = bits(model)
    again = lga_fast.load(merged, device="cpu")
    assert again.dtype == torch.float32 and bits(again) == wanted


def test_an_evaluation_with_a_layer_chosen_by_lga(saved_model, facts, tmp_path):
    where = ("evaluate", "--model", saved_model, "--data", facts, "--proxy", 3, *QUICK[2:])
    where += ("--dtype", "float64", "--json")
    resident, found = (json.loads(run(*where, *more)) for more in ((), STREAMED))
    wanted, got = (
        {c["case_id"]: c["after"] for c in cases["cases"]} for cases in (resident, found)
    )
    assert got == wanted and len(got) == 3
