"""Runs the command line as users run it."""

from __future__ import annotations

from click.testing import CliRunner

from lga_fast.cli import main


def run(*arguments: object, ok: bool = True) -> str:
    """What a command prints on stdout, or, when it is not to be `ok`, all that it prints."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert (result.exit_code == 0) == ok, f"{result.output}{result.exception!r}"
    return result.stdout if ok else result.output
