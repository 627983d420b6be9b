"""Golden layers, t-tests of one layer for all, and what the study writes of them."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest
from scipy import stats

from lga_fast.errors import DataError
from lga_fast.studies import _golden_layers, study
from tests.studies.sweeps import sweep_of

NAN = np.nan
TEST = sweep_of([[0.8, 0.5, 0.0], [0.0, 0.5, 1.0], [0.0, 1.0, 0.5]], locality=[[1, 0, 0]] * 3)
PROXY = sweep_of([[0.9, 0.2, 0.9], [0.1, 0.2, 0.1]], locality=[[NAN] * 3] * 2)


def test_golden_layers_of_either_part_by_every_value():
    found = _golden_layers.by_value(PROXY, TEST, ["rewrite", "combined"])
    rewrite = found["rewrite"]
    assert rewrite["golden"] == {"proxy": [0, 2], "test": [1]}  # ties are all named
    assert rewrite["on_test"] == {"proxy": pytest.approx(0.8 / 3), "test": pytest.approx(2 / 3)}
    assert rewrite["test"]["sd"][1] == pytest.approx(np.std([0.5, 0.5, 1], ddof=1))
    assert found["combined"]["golden"]["test"] == [0]  # (0.8 / 3 + 1) / 2


def test_existence_is_the_best_of_each_against_one_layer():
    layers = {"test": 1, "proxy": 0}
    found = _golden_layers.existence(TEST.values("rewrite"), TEST.layers, layers)
    best = {"mean": 2.8 / 3, "sd": 0.2 / 3**0.5, "sem": 0.2 / 3, "count": 3}
    assert found["best_of_each"] == pytest.approx(best)
    assert (found["test"]["layer"], found["test"]["mean"]) == (1, pytest.approx(2 / 3))
    expected = stats.ttest_ind([0.8, 1, 1], [0.5, 0.5, 1.0])
    assert found["test"]["tests"]["independent"]["p"] == pytest.approx(expected.pvalue)
    paired = stats.ttest_rel([0.8, 1, 1], [0.8, 0, 0])
    assert found["proxy"]["tests"]["paired"]["p"] == pytest.approx(paired.pvalue)


def test_in_a_union_large_data_sets_count_more_than_in_the_mean_over_them():
    large = sweep_of([[0.6, 0.4]] * 3)
    small = sweep_of([[0.5, 0.8]])
    found = _golden_layers.union({"large": (large, TEST), "small": (small, TEST)}, "rewrite")
    assert found["golden_union"] == [0] and found["golden_macro"] == [1]  # 2.3 : 2.0, 1.1 : 1.2
    np.testing.assert_allclose(found["distance"]["union of proxies"], [0, 0.075])
    np.testing.assert_allclose(found["distance"]["small, proxy"], [0.3, 0])


def test_the_study_writes_what_the_sweep_says(setting):
    asked = setting()
    report = study("golden", asked)
    one = report.data["trials"]["tiny"]
    (trial,) = asked.trials()
    _, test = trial.parts()
    means = test.acc["rewrite"].mean(0)
    np.testing.assert_allclose(one["values"]["rewrite"]["test"]["mean"], means)
    assert one["existence"]["test"]["layer"] == means.argmax()
    assert one["without_subject"] == 1
    assert one["in_one_part_only"] == ["locality", "rephrase"]  # the one proxy fact has no probes
    assert "to measure it with: locality, rephrase." in report.text[2]
    written = json.loads((asked.out / "golden.json").read_text())
    assert written["trials"]["tiny"]["existence"]["best_of_each"]["count"] == 2
    page = (asked.out / "golden.html").read_text()
    assert set(re.findall('(?:src|href)="(.{5})', page)) == {"data:"}  # it needs no network
    assert page.count("<img") == 3 == len(list(asked.out.glob("golden-*.png")))
    assert all(picture.caption in html.unescape(page) for picture in report.pictures)


def test_what_cannot_be_studied_is_refused(setting):
    with pytest.raises(DataError, match=r"metrics=locality: expected rewrite among them"):
        setting(metrics=("locality",))
    with pytest.raises(DataError, match="3 of 4 requests .* at least 2 proxy and 2 test facts"):
        study("golden", setting(proxy=2))
