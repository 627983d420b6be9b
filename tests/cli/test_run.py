"""lga-fast run: a file is the command line that it stands for, and is refused as a whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from running import run

from lga_fast import registry
from lga_fast.commands import _run_run

QUICK = {"steps": 2, "contexts": ["Berlin. "]}


@pytest.fixture
def written(tmp_path):
    def write(**values: object) -> object:
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


def test_all_that_is_wrong_is_said_at_once(written, tmp_path):
    file = written(
        study="golden",
        modell="atlas",
        proxy=0,
        test="eight",
        seed=True,
        facts=3,
        lr=-1,
        editor=["r_rome", "rume"],
        jobs=[1, 2],
        dtype=32,
        out=str(tmp_path / "out"),
    )
    text = run("run", file, ok=False)
    for part in [
        f"{file}: expected options of `lga-fast study`, got:",
        "modell: no such option (did you mean model?)",
        "proxy: 0 is not in the range x>=1",
        "test: 'eight' is not a valid integer",
        "seed: expected a number, got True",
        "editor: 'rume' is not one of",
        "jobs: expected one value, got [1, 2]",
        "dtype: expected text; put it in quotes, got 32",
        "study 'golden' has no option facts",
        "r_rome: lr: expected a number above 0, got -1",
    ]:
        assert part in text, part
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: golden\nout: !!python/object/apply:os.system ['touch ran']\n", "tag"),
        ("- study\n", "expected keys with values"),
        ("study: golden\nstudy: compare\n", "study is there twice"),
        ("mom2-tokens: 5\nmom2_tokens: 6\nstudy: golden\n", "it is there twice"),
        ("model: atlas\n", "study: missing: one of compare, golden"),
        ("command: list\n", "command: expected one of study, select, edit, evaluate, got list"),
        (
            "command: edit\neditor: rome\nmom2_weight: 3\n",
            "has no option mom2_weight",
        ),
        ("command: select\nplan: 1\n", "plan: expected true or false, got 1"),
        ("command: select\nmodel: {a: 1}\n", "model: expected text, got {'a': 1}"),
    ],
)
def test_files_that_are_no_runs_are_refused(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    assert message in run("run", "run.yaml", ok=False)
    assert not (tmp_path / "ran").exists()


def test_the_examples_of_help_and_docs_are_right():
    usage = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text(encoding="utf-8")
    (documented,) = re.findall(r"```yaml\n(study:.*?)```", usage, re.S)
    example = str(registry.member("lga_fast.commands", "run").command().epilog)
    command = registry.member("lga_fast.commands", "study").command()
    for text in (documented, example.partition("file:\n")[2]):
        arguments, problems = _run_run._checked(command, yaml.safe_load(text))
        assert arguments[0] == "compare" and not problems


def test_other_commands_run_as_on_the_command_line(written, saved_model, facts, tmp_path):
    options = {"model": str(saved_model), "data": str(facts), "proxy": 4, "bootstrap": 20}
    file = written(command="select", selector=["lga", "salem"], json=True, **options)
    printed = json.loads(run("run", file))
    flags = [part for key, value in options.items() for part in (f"--{key}", value)]
    same = json.loads(run("select", "--selector", "lga,salem", "--json", *flags))
    assert {n: r["scores"] for n, r in printed.items()} == {n: r["scores"] for n, r in same.items()}


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
def test_a_study_is_repeated_by_the_file_that_it_writes(written, saved_model, facts, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    about = {"model": str(saved_model), "data": str(facts), "proxy": 2, "test": 3, "seed": 7}
    about |= {"metrics": ["rewrite"], "out": str(out), **QUICK}
    text = run("run", written(study="golden", **about))
    assert "golden.yaml" in text
    kept = yaml.safe_load((out / "golden.yaml").read_text())
    assert kept["study"] == "golden" and kept["steps"] == 2 and kept["seed"] == 7
    assert kept["jobs"] == 1, "what was not said is in it too"
    run("run", out / "golden.yaml", "--out", again)
    first, second = (json.loads((f / "golden.json").read_text()) for f in (out, again))
    (one,), (other,) = first["trials"].values(), second["trials"].values()
    assert one["values"] == other["values"] and one["editor_config"]["steps"] == 2
    assert one["editor_config_source"]["steps"] == "config"
    page = (again / "golden.html").read_text()
    assert f"--out={again}" in page and "lga-fast study golden --model=" in page
    assert "Options of r_rome on" in page and "weight_decay" in page
