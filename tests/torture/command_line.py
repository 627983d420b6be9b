"""Command lines that no one should give, to every command."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
from click.testing import CliRunner

from lga_fast.cli import main
from tests.torture.hostile import VALUES


def _texts() -> Iterator[str]:
    for value in VALUES:
        text = value if isinstance(value, str) else json.dumps(value)
        if "\0" not in text:  # no argument of a process has it; bytes that are no text have
            yield text[:20_000].encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


@cache
def _commands() -> dict[str, list[click.Option]]:
    context = click.Context(main)
    return {
        name: [p for p in main.get_command(context, name).params if isinstance(p, click.Option)]
        for name in main.list_commands(context)
    }


def command_line(folder: Path, draw: random.Random) -> None:
    """A command with some options of its own, whose values no one should give."""
    name = draw.choice(sorted(_commands()))
    texts, arguments = list(_texts()), [name]
    own = [o for o in _commands()[name] if not o.is_eager]
    for option in draw.sample(own, min(len(own), draw.randrange(4))):
        arguments.append(option.opts[0])
        if not option.is_flag:
            arguments.append(draw.choice(texts))
    arguments += draw.choices(texts, k=draw.choice((0, 0, 1, 2)))
    if name not in ("info", "list", "diff", "undo", "verify", "apply"):
        arguments += ["--model", str(folder / "nothing")]
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, arguments)
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    if done.exit_code not in (0, 1, 2) or (done.exit_code and len(done.output) > 6000):
        raise AssertionError(f"exit code {done.exit_code}, {len(done.output)} characters")
