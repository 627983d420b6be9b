"""Regret, variants of lga, and the study of all selectors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lga_fast.errors import OptionError
from lga_fast.selectors import lga
from lga_fast.studies import study
from lga_fast.sweep import statistics
from tests.selectors.stand_in import scores
from tests.studies.conftest import LAYERS


def test_regret_is_what_the_golden_layer_is_better_by():
    mean = np.array([0.5, 0.9, 0.7])
    drawn = np.array([[0.5, 0.9, 0.7]] * 39 + [[0.9, 0.4, 0.8]])
    found = statistics.regret(mean, drawn, [1])
    assert found["value"] == 0 and found["low"] == 0
    assert found["high"] == pytest.approx(0.0125)  # 0.5 once: a resample has its own golden layer
    several = statistics.regret(mean, drawn, [0, 2])
    assert several["value"] == several["high"] == pytest.approx(0.3)


def test_lgas_variants_add_up_products_their_sizes_or_cosines():
    phi = [[3.0, 1.0, 0.0], [-3.0, 1.5, 0.5]]
    norms = {"down.weight": np.array([[9.0, 1.0, 1.0], [9.0, 9.0, 0.25]])}
    made = scores(phi, norm2_old=norms, norm2_new=norms, kinds=("factual",))
    selector = lga.Selector(tukey=1.0, bootstrap=10)
    layers = {
        aggregation: selector.variant(made, "mlp_all", aggregation).layers
        for aggregation in lga.AGGREGATIONS
    }
    # signed 0, 2.5, 0.5; absolute 6, 2.5, 0.5; cosines (1/3 - 1/3), (1 + 1/6), (0 + 2)
    assert layers == {"signed": (1,), "absolute": (0,), "cosine": (2,)}


def test_every_selector_is_compared_on_the_test_facts(setting):
    asked = setting()
    found = study("compare", asked, draws=20, proxy_draws=5).data["trials"]["tiny"]
    (trial,) = asked.trials()
    _, test = trial.parts()
    means = test.acc["rewrite"].mean(0)
    rows = found["choices"]
    assert {"cma", "salem", "lga_new", "race", "brute_force"} < set(rows)
    for row in rows.values():
        lost = means.max() - means[list(row["layers"])].mean()
        assert row["regret"]["rewrite"]["value"] == pytest.approx(lost)
        assert row["resampled"] is None or sum(row["resampled"]["shares"]) == pytest.approx(1)
    assert len(rows["random_layer (mean of all)"]["layers"]) == LAYERS
    assert json.loads((asked.out / "compare.json").read_text())["made"]["proxy_draws"] == 5


def test_no_resamples_are_refused(setting):
    with pytest.raises(OptionError, match="compare: draws: expected a whole number of at least 1"):
        study("compare", setting(), draws=0)
