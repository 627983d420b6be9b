"""What choosing costs: counted forwards, ratios, and rows that were scaled."""

from __future__ import annotations

import json

import pytest

import lga_fast
from lga_fast.studies import runtime, study
from lga_fast.studies._measured_facts import selector_for
from tests.studies.conftest import LAYERS
from tests.studies.facts import REQUESTS

TOGETHER, ALONE = "brute_force, facts together", "brute_force, one fact at a time"
EDIT = (2 * 4 - 1) * 3  # four forwards with three backwards; two contexts and the KL's row


def test_forwards_are_the_methods_and_ratios_are_everywhere(setting):
    asked = setting(proxy=2, test=1)
    report = study("runtime", asked, repeats=2, batched=2, alone=1)
    one = json.loads((asked.out / "runtime.json").read_text())["trials"]["tiny"]
    rows = one["selectors"]
    assert rows["cma"]["forwards"] == 2 * (LAYERS + 2) * 11  # ten noisy runs and a clean one
    assert rows["cma"]["forwards_run"] < rows["cma"]["forwards"]
    assert rows["cma, all tokens"]["forwards"] > 3 * rows["cma"]["forwards"]
    together, alone = rows[TOGETHER], rows[ALONE]
    assert together["forwards"] == alone["forwards"] == 2 * LAYERS * EDIT
    assert (together["facts_timed"], alone["facts_timed"]) == (2, 1)
    assert together["edits"] == alone["edits"] == 2 * LAYERS
    assert rows["race"]["edits"] > rows["lga"]["edits"] == 0
    seconds = {name: row["seconds"] for name, row in rows.items()}
    assert set(one["times_lga"]) == {"cma", "cma, all tokens", ALONE, TOGETHER}
    for name, ratio in one["times_lga"].items():
        assert ratio == seconds[name] / seconds["lga"] > 0
        assert f"{ratio:.1f} times as long" in report.text[1]
        assert any(f"{ratio:.1f}" in row for row in report.tables[0].rows)
    assert 0 < rows["lga"]["seconds_old_answers"] < seconds["lga"]
    assert f"{ALONE} (scaled from 1 of 2)" in report.markdown()
    assert f"{TOGETHER} (scaled" not in report.markdown()


def test_named_selectors_are_timed_without_variants(setting):
    (trial,) = setting(proxy=2, test=1).trials()
    assert set(runtime.Study(selectors=("cma",))._selections(trial)) == {"cma", "lga"}
    assert "cma, all tokens" in runtime.Study()._selections(trial)


@pytest.mark.parametrize("selector", ["lga", "lga_new", "salem"])
def test_forwards_of_a_selector_are_those_that_the_model_runs(setting, selector):
    (trial,) = setting(proxy=2, test=1).trials()
    rows = []

    def count(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.requires_grad:
            rows.append(len(hidden))
            hidden.register_hook(lambda gradient: rows.append(len(gradient)))

    trial.model.part(1, "mlp").register_forward_hook(count)
    ranking = selector_for(trial, selector, 0).rank(trial.model, trial.split.proxy)
    generated = 2 if selector == "lga" else 0  # one old answer for each fact
    assert ranking.provenance["sequence_forwards"] == sum(rows) + generated


@pytest.mark.parametrize("long, runs", [(60, 3), (0, 1)])
def test_a_long_first_run_is_the_only_one(setting, monkeypatch, long, runs):
    (trial,) = setting(proxy=2, test=1).trials()
    selector, asked = selector_for(trial, "salem", 0), []

    class Counted:
        def rank(self, model, facts):
            asked.append(len(facts))
            return selector.rank(model, facts)

    monkeypatch.setattr(runtime, "LONG", long)
    row = runtime._timed(Counted(), trial, repeats=2)
    assert asked == [2] * runs
    assert 0 < row["least"] <= row["seconds"] <= row["most"]


def test_edits_alone_leave_the_model_as_it_was(setting):
    (trial,) = setting(proxy=2, test=1).trials()
    before = trial.model.fingerprint()
    seconds, forwards = runtime._alone(trial, REQUESTS[:2], runtime._editing(trial))
    assert trial.model.fingerprint() == before
    assert seconds > 0 and forwards == 2 * LAYERS * EDIT
    assert lga_fast.select_layer(trial.model, REQUESTS, "lga", bootstrap=0).requests == 3
