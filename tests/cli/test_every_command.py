"""What holds of every command: how errors are shown, and what --quiet leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from lga_fast.cli import main
from lga_fast.errors import LgaFastError


def test_an_error_is_a_paragraph_or_with_debug_a_traceback(tmp_path):
    arguments = ["select", "--model", str(tmp_path / "none"), "--quiet"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert done.stderr.startswith("Error: ")
    with pytest.raises(LgaFastError, match="expected a folder, there is none"):
        CliRunner().invoke(main, [*arguments, "--debug"], catch_exceptions=False)
    assert "Exit codes:" in CliRunner().invoke(main, ["--help"]).output


def test_quiet_leaves_only_the_result(saved_model, facts):
    where = ["select", "--model", saved_model, "--data", facts, "--weights", "auto", "--json"]
    loud, quiet = (
        CliRunner().invoke(main, [*map(str, where), *more]) for more in ([], ["--quiet"])
    )
    assert "weights: resident" in loud.stderr and quiet.stderr == ""
    assert json.loads(quiet.stdout)["layer"] == json.loads(loud.stdout)["layer"]


def test_completion_is_installed_as_documented():
    environment = {"_LGA_FAST_COMPLETE": "bash_source"}
    code = "from lga_fast.cli import main; main(prog_name='lga-fast')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment
    )
    assert "complete -o nosort -F _lga_fast_completion lga-fast" in done.stdout
    asked = environment | {
        "_LGA_FAST_COMPLETE": "bash_complete",
        "COMP_WORDS": "lga-fast ve",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | asked
    )
    assert done.stdout == "plain,verify\n"
