"""The paper's own numbers: its verdicts, its regrets, and its rows beside those of a study."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lga_fast.datasets import LoadedEdits, easyedit_requests
from lga_fast.studies import _paper, study
from tests.studies.facts import REQUESTS

TABLE_1 = [row for row in _paper.rows() if row["table"] == 1]


@pytest.mark.parametrize("row", TABLE_1, ids=lambda row: f"{row['model']}-{row['data']}")
def test_the_verdicts_of_table_1_follow_from_its_moments(row):
    assert _paper.t_test(row).significant is row["different"]


def test_they_are_fifteen_and_those_on_counterfact_hold_for_many_sizes():
    assert Counter(row["different"] for row in TABLE_1) == {True: 9, False: 6}

    def verdicts(facts: int) -> list[bool]:
        counterfact = [row | {"facts": facts} for row in TABLE_1 if row["data"] == "Counterfact"]
        return [_paper.t_test(row).significant for row in counterfact]

    paper = verdicts(928)
    assert [verdicts(n) == paper for n in (294, 295, 4134, 4135)] == [False, True, True, False]
    one = np.array([0.5] + [1.0] * 927)  # LLaMA2-7B's golden layer: one fact at a half
    assert (round(one.mean(), 4), round(one.std(ddof=1), 4)) == (0.9995, 0.0164)


def test_regret_is_measured_from_the_golden_layer_of_table_3():
    rows = {
        tuple(row[key] for key in ("model", "data", "editor", "selector")): row
        for row in _paper.rows()
        if row["table"] in _paper.SELECTORS
    }
    assert len(rows) == sum(row["table"] in _paper.SELECTORS for row in _paper.rows())
    gpt2 = rows["GPT-2 XL", "ZSRE", "R-ROME", "LGA"]
    assert gpt2["regret"] == pytest.approx(0.9993 - 0.9851)
    assert rows["GPT-2 XL", "ZSRE", "EMMET", "LGA"]["regret"] is None
    regrets = [r["regret"] for r in rows.values() if r["selector"] == "LGA" and r["regret"]]
    assert len(regrets) == 11 and np.mean(regrets) == pytest.approx(0.0240, abs=5e-5)
    golden = {(r["model"], r["data"]): r["test"] for r in _paper.rows() if r["table"] == 3}
    assert golden == {(r["model"], r["data"]): r["golden"] for r in TABLE_1}


@pytest.mark.parametrize(
    ("source", "data", "loader", "tables"),
    [
        ("openai-community/gpt2-xl", "zsre", "jsonl", {1, 2, 3, 4, 5, 6, 8, 14}),
        ("/models/GPT2-XL/", "ZsRE-test-all", "zsre", {1, 2, 3, 4, 5, 6, 8, 14}),
        ("meta-llama/Llama-2-7b-hf", "test_cf", "wikidata counterfact", {1, 3, 5, 6, 7, 8}),
        ("google/gemma-3-12b-pt", "recent", "wikidata recent", {1, 3, 5, 6, 7, 8, 10}),
        ("gpt2", "zsre", "zsre", set()),  # a smaller model, for all that Table 1 calls it so
        ("meta-llama/Llama-2-13b-hf", "zsre", "zsre", set()),
        ("gpt2-xl", "atlas", "atlas", set()),
    ],
)
def test_a_trial_goes_by_its_models_and_its_datas_names(setting, source, data, loader, tables):
    name, _, form = loader.partition(" ")
    edits = easyedit_requests(REQUESTS)
    about = replace(edits.provenance, name=name, form=form)
    edits = LoadedEdits(edits, edits.report, about)
    asked = replace(setting(), models=(source,), data={data: edits})
    (trial,) = asked.trials()
    assert {row["table"] for row in _paper.rows_of(trial)} == tables
    (trial,) = replace(asked, editors=("memit",), config=None).trials()
    assert not _paper.rows_of(trial)


def test_studies_show_the_papers_rows(setting):
    edits = {"zsre": easyedit_requests(REQUESTS)}
    asked = replace(setting(), models=("openai-community/gpt2-xl",), data=edits)
    golden = study("golden", asked)
    assert (
        "gpt2-xl in the paper (Table 1): 1.000 and 0.999 (not significantly less" in golden.text[2]
    )
    existence, by_value = (table.markdown() for table in golden.tables)
    assert (
        "Table 1: golden layer of test facts | 1.0000 ± 0.0000 |  | 0.9993 ± 0.0135 | 0."
        in existence
    )
    assert "the paper's Table 3: rewrite |  | 19 | 0.9993 | 15 | 0.9962 | 0.0031 |" in by_value
    compare = study("compare", asked, draws=20, proxy_draws=5)
    assert "In the paper: CMA 0.033 (Table 2), SaLEM 0.308 (Table 2), LGA 0.014" in compare.text[1]
    assert "| LGA in the paper's Table 2 |  | 0.985 |" in compare.tables[0].markdown()
    written = json.loads((asked.out / "compare.json").read_text())
    assert {row["selector"] for row in next(iter(written["trials"].values()))["paper"]} == {
        *("CMA", "SaLEM", "LGA", "Random")
    }
