"""Evaluating: the same values as by hand, in every mode, and however often it is stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import pytest
import tiny
import torch

import lga_fast
from lga_fast import provenance, registry
from lga_fast.datasets import load_edits, split
from lga_fast.editors import _contexts
from lga_fast.errors import DataError, EditError, OptionError, UnknownName
from lga_fast.evaluation import evaluate as evaluating
from lga_fast.evaluation import loop, results_file
from lga_fast.evaluation_records import Average
from lga_fast.forward.decoding import greedy
from lga_fast.metrics import choose, measure_cases
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, Probe
from tests.models.edits import bits

CITIES = ("France", "Italy", "Berlin", "Vienna", "New York", "Paris", "Rome")
OPTIONS = {"layer": 1, "contexts": ("The book. ",), "steps": 4}
TIMES = ("seconds_edit", "seconds_measure", "peak_bytes")


def tiny_model(family: str = "gpt2") -> EditableModel:
    return tiny.model(family, torch.float32)


def request(i: int) -> EditRequest:
    city = CITIES[i % len(CITIES)]
    prompt = f"The tower of {city} {'and so on ' * (i % 3)}stands in"
    probes = [
        Probe("rephrase", "rephrase", f"In {city} everyone knows the tower of", ""),
        Probe("locality", "one", "The capital of Italy is", "Rome, as everyone knows"),
        Probe("locality", "two", f"The mother tongue of Ann Lee {i} is", "English"),
        Probe("portability", "hop", "Who wrote the long book? A:", "Nobody remembers"),
    ]
    kept = tuple(probes[: 4 - i % 3])
    target = ("Ann Lee", "French", "Nobody")[i % 3]
    start = prompt.index(city)
    return EditRequest(f"case {i}", prompt, target, city, (start, start + len(city)), probes=kept)


REQUESTS = [request(i) for i in range(5)]


def evaluate(model, requests=REQUESTS, **options):
    return lga_fast.evaluate(model, requests, **OPTIONS | options)


def values(model, requests, before=None):
    return measure_cases(model, requests, None, choose(evaluating.METRICS), before)


def untimed(results):
    """Results without what differs between runs of the same."""
    return [{k: v for k, v in vars(r).items() if k not in TIMES} for r in results]


def lines_of(path: Path) -> list[dict]:
    """The lines of a file of results, without what differs between runs of the same."""
    text = path.read_text()
    assert text.endswith("\n")
    rows = [json.loads(line) for line in text.splitlines()]
    rows[0]["made"] = [{"cases_before": at["cases_before"]} for at in rows[0]["made"]]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_single_edits_are_measured_as_each_alone_in_the_weights(family, monkeypatch):
    model = tiny_model(family)
    state = bits(model)
    with monkeypatch.context() as patch:
        patch.setattr(model, "edited", None)  # no weight is written
        results = evaluate(model, chunk=2)
    assert bits(model) == state
    plain, before = values(model, REQUESTS)
    for one, result, old in zip(REQUESTS, results, plain, strict=True):
        with model.edited(lga_fast.edit(model, [one], "r_rome", **OPTIONS)):
            (after,), _ = values(model, [one], before)
        assert (result.after, result.before) == (after, old)
        assert (result.case_id, result.layer) == (one.case_id, 1)
    assert any(r.after != r.before for r in results)
    assert untimed(evaluate(model, chunk=5)) == untimed(results)


def by_hand(model, when):
    """Edits one inside another, each solved on the model with the ones before."""
    _, before = values(model, REQUESTS)
    contexts = OPTIONS["contexts"]
    found = []
    with ExitStack() as applied:
        for one in REQUESTS:
            change = lga_fast.edit(model, [one], "rome", **OPTIONS | {"contexts": contexts})
            applied.enter_context(model.edited(change))
            if when == "after_each":
                found += values(model, [one], before)[0]
        return found or values(model, REQUESTS, before)[0]


@pytest.mark.parametrize("when", ["end", "after_each"])
def test_edits_of_a_sequence_accumulate(when):
    model = tiny_model()
    state = bits(model)
    results = evaluate(model, editor="rome", mode="sequential", eval_when=when, chunk=2)
    assert bits(model) == state
    assert [r.after for r in results] == by_hand(model, when)
    assert [r.before for r in results] == values(model, REQUESTS)[0]
    alone = evaluate(model, editor="rome")
    assert [r.after for r in results][1:] != [r.after for r in alone][1:]


def test_when_a_sequence_is_measured_makes_a_difference():
    model = tiny_model()
    runs = [
        evaluate(model, mode="sequential", eval_when=when, steps=8)
        for when in ("end", "after_each")
    ]
    assert runs[0][-1].after == runs[1][-1].after
    assert [r.after for r in runs[0]] != [r.after for r in runs[1]]


def test_a_batch_is_one_edit_for_all():
    model = tiny_model("llama")
    results = evaluate(model, mode="batch", chunk=2)
    plain, before = values(model, REQUESTS)
    with model.edited(lga_fast.edit(model, REQUESTS, **OPTIONS)):
        after, _ = values(model, REQUESTS, before)
    assert [(r.before, r.after) for r in results] == list(zip(plain, after, strict=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("editor", registry.names("lga_fast.editors"))
def test_every_editor_serves_every_mode(editor):
    model = tiny_model("llama")
    state, few = bits(model), REQUESTS[:3]
    found = {mode: evaluate(model, few, editor=editor, mode=mode) for mode in get_args(loop.Mode)}
    assert bits(model) == state
    for results in found.values():
        assert [r.before for r in results] == values(model, few)[0]
    _, before = values(model, few[:1])
    with model.edited(lga_fast.edit(model, few[:1], editor, **OPTIONS)):
        (after,), _ = values(model, few[:1], before)
    assert found["single"][0].after == after


def test_contexts_are_made_once_and_of_the_model_without_edits(monkeypatch):
    made = []

    def generate(model, *how):
        made.append(model.fingerprint())
        return ("", "The book. ")

    monkeypatch.setattr(_contexts, "generate", generate)
    model = tiny_model()
    for mode in ("single", "sequential", "batch"):
        evaluate(model, mode=mode, contexts=None, chunk=2)
    assert made == [model.fingerprint()] * 3


def test_the_summary_averages_what_there_is():
    model = tiny_model()
    edits = load_edits(REQUESTS, limit=4)
    results = evaluate(model, edits)
    summary = results.summary
    assert (summary.cases, summary.dropped, summary.noted) == (4, 1, 0)
    ported = [r.after["portability"] for r in results if "portability" in r.after]
    ported = [x for x in ported if x is not None]
    mean = sum(ported) / 2
    assert summary.after["portability"] == Average(mean, abs(ported[0] - mean) * 2**0.5, 2)
    assert summary.before["locality"] == Average(1.0, 0.0, 4)
    assert summary.after["rewrite"].count == 4
    assert summary.known == sum(r.before["rewrite"] == 1 for r in results)
    assert summary.seconds_edit == pytest.approx(sum(r.seconds_edit for r in results))
    seconds = summary.seconds_edit + summary.seconds_measure
    assert summary.edits_per_second == pytest.approx(4 / seconds)
    assert results[0].seconds_edit > 0 and results[0].peak_bytes > 1 << 20
    about = results.provenance["configuration"]
    assert about["model_fingerprint"] == model.fingerprint()
    assert about["editor_config"]["steps"] == 4 and about["metrics"]["overall"] == {"exclude": []}
    (made,) = results.provenance["made"]
    assert made["data"]["sha256"] == edits.provenance.sha256 and about["threads"]
    assert made["config_source"]["steps"] == "argument"


def test_what_is_known_of_a_request_stands_in_its_result():
    model = tiny_model("llama")
    twice = EditRequest("x", "Paris and Paris are", "Rome", "Paris", (0, 5))
    prompt = "The capital of France is Paris."
    said = model.tokenizer.decode(greedy(model, [model.tokenizer(prompt)["input_ids"]], [1])[0])
    known = EditRequest("y", prompt, said.strip(), "France", (15, 21))
    assert said.startswith(" ")
    for mode in ("single", "batch", "sequential"):
        results = evaluate(model, [known, twice], mode=mode)
        assert results[0].notes == (f"the model answers {said.strip()!r} already",)
        assert results[1].notes == ("the subject 'Paris' is in the prompt 2 times; one is edited",)
        assert [r.known for r in results] == [True, False]
        assert (results.summary.known, results.summary.noted) == (1, 2)
    results = evaluate(model, [known], metrics=["locality"])
    assert results.summary.known is None and "locality" not in results.summary.after


def test_metrics_are_chosen_by_name():
    options = {"fluency": {"sentences": False, "max_total_tokens": 20}}
    results = evaluate(
        tiny_model(), REQUESTS[:2], metrics=["rewrite", "fluency"], metric_options=options
    )
    assert set(results[0].after) == {"rewrite", "fluency", "fluency_raw"} == set(results[0].before)
    assert results.provenance["configuration"]["metrics"]["fluency"]["max_total_tokens"] == 20


@pytest.mark.parametrize(
    "how",
    [
        {"chunk": 2},
        {"mode": "batch", "chunk": 2},
        {"mode": "sequential", "chunk": 2},
        {"mode": "sequential", "eval_when": "after_each"},
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_a_run_goes_on_where_another_stopped(how, tmp_path):
    model = tiny_model()
    path = tmp_path / "whole.jsonl"
    whole = evaluate(model, out=path, **how)
    expected = lines_of(path)
    assert untimed(whole) == untimed(evaluate(model, **how))
    lines = path.read_text().splitlines(keepends=True)
    for there in range(6):
        torn = lines[there + 1][:9] if there < 5 else ""
        path.write_text("".join(lines[: there + 1]) + torn)
        again = evaluate(model, out=path, **how)
        assert untimed(again) == untimed(whole)
        assert lines_of(path) == expected
        assert path.read_text().startswith("".join(lines[: there + 1])), "kept as it was"


def test_only_what_is_missing_is_done(tmp_path, monkeypatch):
    model = tiny_model()
    path = tmp_path / "new folder" / "results.jsonl"
    evaluate(model, out=path, chunk=2)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]))  # of the second chunk one case is there
    asked = []
    measure = loop.measure_cases
    monkeypatch.setattr(
        loop,
        "measure_cases",
        lambda model, few, *a: asked.append(len(few)) or measure(model, few, *a),
    )
    evaluate(model, out=path, chunk=2)
    assert asked == [2, 2, 1, 1]  # chunks of 2 and 1, before and after
    evaluate(model, out=path, chunk=2)
    assert len(asked) == 4


def test_other_surroundings_are_written_down(tmp_path, monkeypatch):
    model = tiny_model()
    path = tmp_path / "results.jsonl"
    evaluate(model, out=path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))
    commit = json.loads(lines[0])["made"][0]["commit"]
    monkeypatch.setattr(provenance, "commit", lambda: "another")
    made = evaluate(model, out=path).provenance["made"]
    assert [(at["cases_before"], at["commit"]) for at in made] == [(0, commit), (2, "another")]
    assert json.loads(path.read_text().splitlines()[0])["made"] == made


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    model = tiny_model()
    path = tmp_path / "results.jsonl"
    evaluate(model, out=path)
    before = path.read_bytes()
    for options, said in (
        ({"layer": 2}, "another configuration: layer was 1, is now 2. Give another file"),
        ({"steps": 5}, "editor_config.steps was 4, is now 5"),
        ({"metrics": ["rewrite"]}, "metrics.rephrase was {}, is now None"),
        ({"mode": "batch"}, "mode was 'single', is now 'batch'"),
        ({"proxy": ["p"]}, r"proxy was \[\], is now \['p'\]"),
        ({"requests": REQUESTS[:4]}, "requests_sha256 was .*; requests was 5, is now 4"),
        ({"requests": [*REQUESTS[:4], request(9)]}, "configuration: requests_sha256"),
    ):
        with pytest.raises(DataError, match=said):
            evaluate(model, out=path, **options)
    with torch.no_grad():
        model.matrix(0, "down").weight.add_(1)
    with pytest.raises(DataError, match="configuration: model_fingerprint was '[0-9a-f]+'"):
        evaluate(model, out=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: ["{}", *lines[1:]], "expected a file of lga_fast.Evaluation, version 1"),
        (lambda lines: ["x,y", "1,2"], "'x,y' .* Nothing was written; give another file"),
        (lambda lines: [*lines[:2], "{}", *lines[3:]], "jsonl:3: expected the result of a case"),
        (lambda lines: [lines[0], lines[2]], "jsonl:2: expected 'case 0', got 'case 1'"),
        (lambda lines: [*lines, lines[1]], "jsonl:7: expected 'no further case', got 'case 0'"),
    ],
)
def test_what_is_no_such_file_is_refused_and_left_alone(spoil, said, tmp_path):
    model = tiny_model()
    path = tmp_path / "results.jsonl"
    evaluate(model, out=path)
    spoilt = "\n".join([*spoil(path.read_text().splitlines()), ""])
    path.write_text(spoilt)
    with pytest.raises(DataError, match=said):
        evaluate(model, out=path)
    assert path.read_text() == spoilt


def test_bad_input_is_refused_before_work_starts(tmp_path):
    model = tiny_model()
    edits = load_edits(REQUESTS)
    proxy, _ = split(edits, 2)
    lost = [EditRequest(f"x{i}", "It stands in", "Rome", "Paris") for i in range(7)]
    for requests, options, error, said in (
        (
            edits,
            {"proxy": [r.case_id for r in proxy]},
            DataError,
            "2 of 5 requests are among the 2",
        ),
        (edits, {"proxy": "case 1"}, DataError, "expected a list of case ids, got the text"),
        (
            edits,
            {"mode": "all"},
            OptionError,
            "mode: expected one of 'single', 'sequential', 'batch', got 'all'",
        ),
        (
            edits,
            {"eval_when": "now"},
            OptionError,
            "eval_when: expected one of 'end', 'after_each', got 'now'",
        ),
        (edits, {"eval_when": "after_each"}, OptionError, "is for mode='sequential'"),
        (edits, {"metrics": ["rewrit"]}, UnknownName, "Did you mean 'rewrite'"),
        (edits, {"chunk": 0}, OptionError, "chunk: expected a whole number of at least 1, got 0"),
        (edits, {"metrics": "rewrite"}, OptionError, "metrics: expected a list, each text, got"),
        (edits, {"out": tmp_path}, DataError, "expected a file to write, got a folder"),
        (edits, {"layer": 5}, EditError, "layers 0 to 4"),
        (edits, {"editor": "roma"}, UnknownName, "Did you mean 'rome'"),
        ([], {}, EditError, "at least one request"),
        (
            [*REQUESTS, *lost],
            {},
            EditError,
            "which 7 of 12 requests do not have: request 'x0': .* request 'x4': .*; and 2 more",
        ),
    ):
        with pytest.raises(error, match=said):
            evaluate(model, requests, **({"out": tmp_path / "results.jsonl"} | options))
    assert not list(tmp_path.iterdir())


def test_what_killed_runs_left_is_cleared(tmp_path):
    path = tmp_path / "re[s]ults.jsonl"
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, living, other = (
        tmp_path / f".{name}.part.jsonl"
        for name in (f"re[s]ults.{process.pid}", f"re[s]ults.{os.getppid()}", f"x.{process.pid}")
    )
    for file in (dead, living, other):
        file.write_text("half a li")
    results_file.CaseFile(path, {}, {"commit": "a"}, ["case"])
    assert set(tmp_path.iterdir()) == {path, living, other}


KILLING = """
import os, random, signal, sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
import tiny, torch
from tests.evaluation import test_evaluate
torch.set_num_threads(1)
model = tiny.model("gpt2", torch.float32)
requests = [test_evaluate.request(i) for i in range(12)]

def start(path):
    if child := os.fork():
        return child
    test_evaluate.evaluate(model, requests, out=path, chunk=2)
    os._exit(0)

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

whole, path = Path("whole.jsonl"), Path("killed/results.jsonl")
began = time.perf_counter()
assert end(start(whole)) == 0
seconds = time.perf_counter() - began
expected, kills, seen, draw = test_evaluate.lines_of(whole), 0, set(), random.Random(7)
while kills < 10 or (len(seen) < 2 and kills < 60):  # the machine may be slow at first
    child = start(path)
    time.sleep(draw.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    if end(child) == 0:
        path.unlink()
        continue
    kills += 1
    if path.exists():
        lines = test_evaluate.lines_of(path)
        assert lines == expected[: len(lines)]
        seen.add(len(lines))
assert end(start(path)) == 0
assert test_evaluate.lines_of(path) == expected
assert os.listdir("killed") == [path.name]
print(kills, sorted(seen))
"""


def test_killed_at_ten_moments_it_ends_with_the_same_file(tmp_path):
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLING.format(paths=paths)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(eval(done.stdout.partition(" ")[2])) > 1, "killed at different stages"
