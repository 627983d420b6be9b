"""lga-fast evaluate, run as users run it."""

from __future__ import annotations

import json

import pytest
from running import run

import lga_fast
from lga_fast.datasets import split
from lga_fast.records import LayerRanking

QUICK = ("--steps", 2, "--contexts", "It is. ")


@pytest.fixture
def where(saved_model, facts):
    return ("--model", saved_model, "--data", facts, *QUICK)


def test_a_chosen_layer_is_evaluated_on_the_other_facts(where, facts, tmp_path):
    out = tmp_path / "out"
    text = run("evaluate", *where, "--proxy", 4, "--out", out)
    plain = " ".join(text.replace("│", " ").split())
    ranking = LayerRanking.from_json((out / "ranking.json").read_text())
    assert ranking.requests == 4
    for part in (
        f"r_rome: layer {int(ranking)} of",
        f"layer {int(ranking)} chosen by reach on 4 proxy facts from jsonl (facts.jsonl)",
        "2 requests from jsonl (facts.jsonl), each edited alone",
        "4 proxy facts are not among them",
        "before after sd requests rewrite",
        "Not measured for lack of probes: locality, portability, rephrase",
        f"Written to {out}: ranking.json, results.jsonl, summary.json",
    ):
        assert part in plain, part
    found = json.loads((out / "summary.json").read_text())
    proxy, test = split(lga_fast.load_edits("jsonl", facts), 4)
    assert {case["case_id"] for case in found["cases"]} == {fact.case_id for fact in test}
    assert set(found["provenance"]["configuration"]["proxy"]) == {f.case_id for f in proxy}
    header, *lines = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert header == found["provenance"] and lines == found["cases"]


def test_it_goes_on_where_it_stopped_and_refuses_other_options(where, tmp_path):
    out = tmp_path / "out"
    there = (*where, "--layer", 1, "--mode", "sequential", "--eval-when", "after_each")
    first = json.loads(run("evaluate", *there, "--out", out, "--json"))
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    (out / "results.jsonl").write_text("".join(lines[:3]))
    again = json.loads(run("evaluate", *there, "--out", out, "--json"))
    assert len(again["cases"]) == 6 and again["cases"][:2] == first["cases"][:2]
    assert [c["after"] for c in again["cases"]] == [c["after"] for c in first["cases"]]
    text = run("evaluate", *where, "--layer", 2, "--out", out, ok=False)
    assert "layer was 1, is now 2; mode was 'sequential', is now 'single'" in " ".join(text.split())


def test_with_a_layer_proxy_facts_are_left_out_if_asked_for(where):
    cases = {}
    for more in ((), ("--proxy", 2), ("--limit", 3), ("--proxy", 2, "--limit", 3)):
        found = json.loads(run("evaluate", *where, "--layer", 1, *more, "--json"))
        cases[more] = [case["case_id"] for case in found["cases"]]
        assert found["summary"]["dropped"] == 0
    every, left, few, both = cases.values()
    assert few == every[:3] and both == left[:3]
    assert left == [case for case in every if case in left] and len(left) == 4


def test_requests_without_their_subject_are_an_error_or_left_out_and_counted(where, facts):
    with facts.open("a") as file:
        row = {"prompt": "It stands in", "subject": "Paris", "target_new": "Rome"}
        file.write(json.dumps(row) + "\n")
    text = " ".join(run("evaluate", *where, "--layer", 1, ok=False).split())
    assert "1 of 7 requests do not have" in text and "leave them out" in text
    text = run("evaluate", *where, "--layer", 1, "--skip-unusable")
    assert "6 requests from" in text and "left out of the data: 1" in text


def test_metrics_and_their_options(where):
    more = ("--metrics", "rewrite,fluency", "--metric-option", "fluency.sentences=false")
    length = ("--metric-option", "fluency.max_total_tokens=16")
    found = json.loads(
        run("evaluate", *where, "--layer", 1, "--limit", 1, *more, *length, "--json")
    )
    assert set(found["summary"]["after"]) == {"rewrite", "fluency", "fluency_raw"}
    options = found["provenance"]["configuration"]["metrics"]["fluency"]
    assert options["sentences"] is False and options["max_total_tokens"] == 16
    for wrong, said in (
        (("--metric-option", "fluency=1"), "expected METRIC.OPTION=VALUE, got 'fluency=1'"),
        (("--metric-option", "fluency.seed=1"), "options for fluency: expected chosen metrics"),
        (("--metrics", "rewrit"), "'rewrit' is not one of"),
    ):
        assert said in " ".join(run("evaluate", *where, *wrong, ok=False).split())


def test_a_config_says_the_layer(where, tmp_path):
    config = tmp_path / "rome.yaml"
    config.write_text("layers: [2]\n")
    found = json.loads(run("evaluate", *where, "--config", config, "--editor", "rome", "--json"))
    assert {case["layer"] for case in found["cases"]} == {2}
    assert found["provenance"]["configuration"]["proxy"] == []
