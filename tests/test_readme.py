"""README is short, its links lead somewhere, its code runs, and its figures are the results'."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lga_fast

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "benchmarks/README.md", *(ROOT / "docs").rglob("*.md")]


def test_tables_are_up_to_date():
    command = [sys.executable, "benchmarks/tables.py", "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_it_is_short():
    assert len(README.encode()) <= 14 * 1024


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks/RESULTS.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not link.startswith("https://")]
    assert all((page.parent / link).exists() for link in local)


def test_its_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    for theirs, ours in (
        ('load("gpt2-xl")', 'load("atlas", device="cpu")'),
        ('load_edits("zsre", "ZsRE-test-all.json", limit=100)', 'load_edits("atlas", limit=2)'),
    ):
        assert theirs in code
        code = code.replace(theirs, ours)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["changes"]) == len(names["result"]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cases.jsonl", "edit.safetensors"]


def test_the_citation_names_the_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == lga_fast.__version__ and citation["license"] == "Apache-2.0"
    (paper,) = citation["references"]
    assert paper["title"] in README and paper["url"] in README
