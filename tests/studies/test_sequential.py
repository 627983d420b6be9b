"""Edits one after another at chosen layers are those of `lga_fast.evaluate`."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lga_fast
from lga_fast.errors import DataError, OptionError
from lga_fast.studies import sequential, study
from tests.studies.conftest import LAYERS

METRICS = ("rewrite", "rephrase", "locality", "portability", "overall")


def mean(cases, name):
    values = [case.after[name] for case in cases if case.after[name] is not None]
    return pytest.approx(np.mean(values))


def known(asked, when):
    """Evaluations of the test facts by layer and mode."""
    (trial,) = asked.trials()
    return {
        (layer, mode): lga_fast.evaluate(
            trial.model,
            trial.split.test,
            layer=layer,
            config=asked.config,
            mode=mode,
            eval_when=when if mode == "sequential" else "end",
            metrics=METRICS,
        )
        for layer in range(LAYERS)
        for mode in ("sequential", "single")
    }


def test_every_choice_is_evaluated_at_its_layer_and_once(setting, monkeypatch):
    asked, calls, evaluate = setting(), [], lga_fast.evaluate
    expected = known(asked, "end")
    monkeypatch.setattr(lga_fast, "evaluate", lambda *a, **k: calls.append(k) or evaluate(*a, **k))
    one = study("sequential", asked, facts=2).data["trials"]["tiny"]
    assert len(calls) == 2 * len(one["layers"])
    assert set(one["layers"]) == {n for row in one["choices"].values() for n in row["layers"]}
    assert one["names"] == ["rewrite", "rephrase", "locality", "overall"]  # no hops to ask
    for row in one["choices"].values():
        for mode in ("sequential", "single"):
            if len(row["layers"]) == 1:
                cases = expected[row["layers"][0], mode]
                for name in one["names"]:
                    assert row[mode][name]["mean"] == mean(cases, name), name
    drawn = one["choices"]["random_layer (mean of 3)"]
    values = [np.mean([c.after["rewrite"] for c in expected[n, "single"]]) for n in drawn["layers"]]
    assert drawn["single"]["rewrite"]["mean"] == pytest.approx(np.mean(values))
    files = sorted((asked.out / "sequential").iterdir())
    assert len(files) == len(calls)
    content = [file.read_bytes() for file in files]
    assert study("sequential", asked, facts=2).data["trials"]["tiny"] == one  # it only reads
    assert [file.read_bytes() for file in files] == content


def test_each_can_be_measured_right_after_its_own_edit(setting):
    asked = setting()
    expected = known(asked, "after_each")
    report = study("sequential", asked, facts=2, eval_when="after_each")
    assert "each right after its own edit" in report.text[0]
    one = report.data["trials"]["tiny"]
    (layer,) = one["choices"][sequential._GOLDEN]["layers"]
    for name in one["names"]:
        found = one["choices"][sequential._GOLDEN]["sequential"][name]
        assert found["mean"] == mean(expected[layer, "sequential"], name), name
    assert report.tables[0].rows[-1][0] == "unedited model"
    written = json.loads((asked.out / "sequential.json").read_text())
    assert written["made"]["eval_when"] == "after_each"


def test_more_facts_than_there_are_is_refused(setting):
    with pytest.raises(DataError, match="facts=10: expected at most the 2 test facts"):
        study("sequential", setting())
    with pytest.raises(OptionError, match="facts: expected a whole number of at least 1"):
        study("sequential", setting(), facts=0)
