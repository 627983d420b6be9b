"""scipy, jinja2 and matplotlib are needed by studies and figures alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lga_fast import registry
from lga_fast.datasets import write_jsonl
from lga_fast.errors import LgaFastError
from lga_fast.reports import plot
from lga_fast.studies import study
from tests.reports.test_reports import RANKING
from tests.studies.facts import REQUESTS

OPTIONAL = ("jinja2", "matplotlib", "scipy")
BLOCKED = f"""
import sys
for name in {OPTIONAL!r}:
    sys.modules[name] = None
sys.path.insert(0, "tests")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """`code` in a process in which these packages cannot be imported."""
    command = [sys.executable, "-c", BLOCKED + code]
    return subprocess.run(command, capture_output=True, text=True)


SELECT_AND_EDIT = """
import tiny, lga_fast
from lga_fast.records import EditRequest
from lga_fast.studies import sweep
model = tiny.model("gpt2")
edits = [EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris")]
for name in {names!r}:
    options = {{"layer": 1}} if name == "fixed" else {{}}
    assert lga_fast.select_layer(model, edits, name, **options).selector == name
lga_fast.edit(model, edits, layer=1, contexts=(), steps=2)
lga_fast.evaluate(model, edits, layer=1, contexts=(), steps=2)
sweep(model, edits, layers=[1], contexts=(), steps=2)
"""


def test_selecting_editing_and_evaluating_need_none_of_them():
    done = run(SELECT_AND_EDIT.format(names=registry.names("lga_fast.selectors")))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", OPTIONAL)
def test_the_check_above_can_fail(package):
    done = run(f"import {package}")
    assert f"import of {package} halted" in done.stderr


def test_the_command_selects_without_figures(saved_model, tmp_path):
    facts, out = tmp_path / "facts.jsonl", tmp_path / "out"
    write_jsonl(REQUESTS, facts)
    arguments = ["select", "--model", saved_model, "--data", facts, "--proxy", 3, "--out", out]
    done = run(f"from lga_fast.cli import main; main({[*map(str, arguments)]!r})")
    assert done.returncode == 0, done.stderr
    assert "golden layer" in done.stdout
    assert done.stdout.count("For figures: pip install 'lga-fast[plot]'") == 1
    assert [file.name for file in out.iterdir()] == ["ranking.json"]


@pytest.mark.parametrize("name", registry.names("lga_fast.studies"))
@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_study_refuses_to_start_without_them(name, package, setting, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LgaFastError, match=rf"study {name} needs {package}: pip install 'lga-fast"):
        study(name, setting())
    assert not setting().out.exists()


def test_only_the_golden_study_needs_scipy(setting, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(LgaFastError, match=r"needs scipy: pip install 'lga-fast\[studies\]'"):
        study("golden", setting())
    study("compare", setting(), draws=5, proxy_draws=2)


def test_a_ranking_is_not_drawn_without_matplotlib(monkeypatch, tmp_path):
    paths = [tmp_path / "layers.png", tmp_path / "layers.svg"]
    plot.write(RANKING, *paths)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LgaFastError, match=r"needs matplotlib: pip install 'lga-fast\[plot\]'"):
        plot.write(RANKING, tmp_path / "other.png")
    assert set(tmp_path.iterdir()) == set(paths)
