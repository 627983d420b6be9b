"""Layers chosen on one data set and used on another: the matrix, the union, the groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lga_fast
from lga_fast.errors import DataError
from lga_fast.selectors import brute_force
from lga_fast.studies import study
from lga_fast.studies._groups import data_sets
from lga_fast.studies.transfer import by_brute_force, by_lga, transfer
from tests.selectors.stand_in import scores
from tests.studies.facts import REQUESTS
from tests.studies.sweeps import sweep_of

NAN = np.nan
PARTS = {  # of proxy and test facts; layers 0, 1, 2
    "a": (sweep_of([[0.9, 0.2, 0.5]] * 3), sweep_of([[1.0, 0.5, 0.0], [0.8, 0.7, 0.0]])),
    "b": (sweep_of([[0.2, 1.0, 0.5]]), sweep_of([[0.1, 0.6, 0.4]])),
}
PHI = {"a": scores([[1.0, 0.0, 2.0]] * 3), "b": scores([[5.0, 0.0, 0.0]])}


def test_the_matrix_is_that_of_a_hand_computation():
    found = transfer(PARTS, PHI, draws=50, seed=1)
    assert found["chosen"] == {
        # sums over four facts 2.9, 1.6, 2.0; means over data sets 0.55, 0.6, 0.5
        "brute_force": {"a": 0, "b": 1, "all together": 0, "mean over data sets": 1},
        # 8, 0, 6, and 3, 0, 1
        "lga": {"a": 2, "b": 0, "all together": 0, "mean over data sets": 0},
    }
    assert found["golden"] == {"a": [0], "b": [1]}
    on_test = {"a": [0.9, 0.6, 0.0], "b": [0.1, 0.6, 0.4]}
    for value in ("rewrite", "combined"):  # nothing but rewrite is measured
        regret = found["regret"][value]
        for selector, by_source in found["chosen"].items():
            for source, layer in by_source.items():
                for target, means in on_test.items():
                    one = regret[selector][source][target]
                    assert one["value"] == pytest.approx(max(means) - means[layer])
                    assert 0 <= one["low"] <= one["high"]
        assert regret["any"]["a"]["value"] == pytest.approx(0.9 - 0.5)


def test_brute_force_chooses_as_the_selector_of_that_name():
    tie = sweep_of(
        [[0.5, 1.0, 1.0], [0.5, 0.0, 0.0]],
        rephrase=[[NAN] * 3, [NAN] * 3],
        locality=[[0.1, 0.2, 0.3], [0.1, 0.2, 0.2]],
    )
    other = sweep_of([[0.0, 0.5, 0.5]], rephrase=[[0.0, 0.6, 0.5]])
    found = by_brute_force({"tie": tie, "other": other})
    for name, proxy in (("tie", tie), ("other", other)):
        assert found[name] == brute_force.Selector(bootstrap=0).aggregate(proxy, 3).layer
    assert (found["tie"], found["other"], found["all together"]) == (2, 1, 1)


def test_lgas_fences_hold_for_the_union_too():
    far = scores([[100.0, 1.0, 2.0, 3.0, 2.0]])
    assert by_lga({"a": far, "b": far}) == dict.fromkeys(
        ["a", "b", "all together", "mean over data sets"], 3
    )


def named(*case_ids):
    """A request for each case id."""
    return [replace(REQUESTS[1], case_id=case_id) for case_id in case_ids]


def test_a_single_data_set_is_grouped_by_kind_of_answer(setting):
    facts = named("club_city:1", "club_city:2", "state_capital:3", "dish_country:4")
    facts += named("river_mouth:5", "city_country:6", "book_author:7", "book_author:8", "plain")
    asked = setting(facts, proxy=1, test=1)
    groups = {kind: [r.case_id for r in few] for kind, few in data_sets(asked).data.items()}
    assert groups == {
        "author": ["book_author:7", "book_author:8"],
        "city": ["club_city:1", "club_city:2", "state_capital:3"],
        "country": ["dish_country:4", "city_country:6"],
        "others": ["river_mouth:5", "plain"],
    }
    several = replace(asked, data=asked.data | {"more": asked.data["facts"]})
    assert data_sets(several) is several
    few = "of 1 proxy and 8 test facts each; the largest of facts are: city 3, author 2, country 2$"
    with pytest.raises(DataError, match=few):
        data_sets(setting(facts, proxy=1, test=8))
    with pytest.raises(DataError, match="the largest of facts are: none$"):
        study("transfer", setting(named("plain")))


def test_the_atlas_has_three_groups_of_the_default_size(setting):
    asked = replace(setting(), data={"atlas": lga_fast.load_edits("atlas")}, proxy=20, test=60)
    groups = {kind: len(few) for kind, few in data_sets(asked).data.items()}
    assert list(groups) == ["city", "country", "others"] and min(groups.values()) >= 80
    assert sum(groups.values()) == len(asked.data["atlas"])


def test_the_study_says_what_its_rows_are(setting):
    facts = [*named("club_city:1", "club_city:2"), *REQUESTS[:1], *REQUESTS[2:]]
    report = study("transfer", setting(facts, proxy=1, test=1), draws=10)
    found = report.data["models"]["tiny"]
    assert set(found["golden"]) == {"city", "others"} and set(found["trials"]) == {"city", "others"}
    assert "grouped by the kind of their answers" in report.text[1]
    assert "city 2 facts, others 2 facts." in report.text[1]
    rewrite, combined = report.tables
    assert rewrite.columns[2:] == ("on city", "on others")
    assert [row[0] for row in rewrite.rows] == [
        *(
            f"{who} on {data}"
            for who in ("brute_force", "lga")
            for data in ("city", "others", "all together")
        ),
        "any layer",
    ]
    assert combined.title.endswith("the combined score")
