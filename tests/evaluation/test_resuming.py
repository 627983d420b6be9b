"""An evaluation's file: a run goes on from it however often it is stopped, or refuses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lga_fast import provenance
from lga_fast.errors import DataError
from lga_fast.evaluation import loop, results_file
from lga_fast.evaluation_records import CaseResult
from lga_fast.files import locked
from tests.abandoned import killed_while_writing
from tests.evaluation.runs import REQUESTS, evaluate, lines_of, request, tiny_model, untimed


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
    monkeypatch.setattr(provenance, "commit_at_start", lambda: "another")
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


def other(line, **changes):
    return json.dumps(json.loads(line) | changes)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: ["{}", *lines[1:]], "expected a file of lga_fast.Evaluation, version 1"),
        (lambda lines: ["x,y", "1,2"], "'x,y' .* Nothing was written; give another file"),
        (lambda lines: [*lines[:2], "{}", *lines[3:]], "jsonl:3: expected the result of a case"),
        (lambda lines: [other(lines[0], made=""), *lines[1:]], "made: expected a list, got a str"),
        (
            lambda lines: [lines[0], other(lines[1], before=""), *lines[2:]],
            "before: expected a dict",
        ),
        (lambda lines: [lines[0], other(lines[1], notes=""), *lines[2:]], "notes: expected a list"),
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


def test_what_killed_runs_left_is_cleared(tmp_path):
    path = tmp_path / "re[s]ults.jsonl"
    abandoned = killed_while_writing(path)
    abandoned.write_text("half a li")
    results_file.CaseFile(path, {}, {"commit": "a"}, ["case"])
    assert set(tmp_path.iterdir()) == {path}


KILLING = """
import os, random, signal, sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
import tiny, torch
from tests.evaluation import runs
torch.set_num_threads(1)
model = tiny.model("gpt2", torch.float32)
requests = [runs.request(i) for i in range(12)]

def start(path):
    if child := os.fork():
        return child
    runs.evaluate(model, requests, out=path, chunk=2)
    os._exit(0)

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

whole, path = Path("whole.jsonl"), Path("killed/results.jsonl")
began = time.perf_counter()
assert end(start(whole)) == 0
seconds = time.perf_counter() - began
expected, kills, seen, draw = runs.lines_of(whole), 0, set(), random.Random(7)
while kills < 10 or (len(seen) < 2 and kills < 60):  # the machine may be slow at first
    child = start(path)
    time.sleep(draw.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    if end(child) == 0:
        path.unlink()
        continue
    kills += 1
    if path.exists():
        lines = runs.lines_of(path)
        assert lines == expected[: len(lines)]
        seen.add(len(lines))
assert end(start(path)) == 0
assert runs.lines_of(path) == expected
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


def test_what_another_process_writes_is_left_alone(tmp_path):
    path = tmp_path / "results.jsonl"
    with locked(path), pytest.raises(DataError, match="another process is writing it"):
        evaluate(tiny_model(), out=path)
    assert not list(tmp_path.iterdir())


def test_results_are_appended_and_a_full_disk_takes_none_of_them(tmp_path, monkeypatch):
    path, ids = tmp_path / "results.jsonl", [str(i) for i in range(4)]
    results = [CaseResult(i, 1, {}, {}, (), 0.1, 0.1, 9) for i in ids]
    file = results_file.CaseFile(path, {}, {"commit": "a"}, ids)
    file.add(results[:1])
    inode, before = path.stat().st_ino, path.read_text()
    file.add(results[1:2])
    assert path.stat().st_ino == inode and path.read_text().startswith(before)
    before = path.read_text()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda handle: os.stat("/no/such/file"))
        with pytest.raises(DataError, match="expected to write it, got: No such file"):
            file.add(results[2:])
    assert path.read_text() == before and len(file.results) == 2
    path.write_text(before + "half a li")  # as a process that is killed now leaves it
    again = results_file.CaseFile(path, {}, {"commit": "a"}, ids)
    again.add(results[2:])
    assert [line["case_id"] for line in lines_of(path)[1:]] == ids
