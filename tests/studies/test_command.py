"""The command `study`: what it refuses before any work, and what it prints."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from lga_fast.cli import main
from lga_fast.commands import study as command
from lga_fast.studies import _trials


def told(*arguments) -> str:
    """What a refused call says, on one line."""
    done = CliRunner().invoke(main, ["study", *map(str, arguments)])
    assert done.exit_code, done.output
    return " ".join(done.output.split())


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Refusals come before a model is loaded."""
    monkeypatch.setattr(_trials, "load", lambda *_, **__: pytest.fail("a model was loaded"))


def test_bad_options_are_refused(tmp_path):
    out = ("--out", tmp_path / "out")
    assert "'gold' is not one of 'compare', 'golden', 'runtime', 'sequential'" in told("gold")
    assert "0 is not in the range x>=1" in told("golden", "--test", 0)
    assert "expected rewrite among them" in told("golden", "--metrics", "rephrase", *out)
    assert "mmlu: expected the path" in told("golden", "--metrics", "rewrite,mmlu", *out)
    assert "at least 5000 proxy and 60 test facts" in told("golden", "--proxy", 5000, *out)
    assert "runtime: repeats: expected a whole number of at least 1, got 0" in told(
        "runtime", "--repeats", 0, *out
    )
    few = told("sequential", "--test", 8, *out)
    assert "facts=10: expected at most the 8 test facts" in few
    assert "study 'golden' has no option facts. It has: none." in told("golden", "--facts", 3, *out)
    assert not (tmp_path / "out").exists()


def test_two_data_sets_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        line = '{"prompt": "The capital of Italy is", "subject": "Italy", "target_new": "Oslo"}'
        (tmp_path / folder / "facts.jsonl").write_text(line)
    both = [option for f in ("a", "b") for option in ("--data", tmp_path / f / "facts.jsonl")]
    assert "--data: two data sets are called 'facts'" in told("golden", *both)


def test_options_of_studies_say_whose_they_are():
    assert "\nsequential: Edits one after another" in (command.command().help or "")
    help_of = {param.name: getattr(param, "help", "") for param in command.command().params}
    assert help_of["draws"].startswith("compare, transfer: ")
    assert help_of["eval_when"].startswith("sequential: ")
