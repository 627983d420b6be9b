"""The work of `lga-fast run`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lga_fast import registry
from lga_fast.commands import _recipe
from lga_fast.commands._field_options import FieldOption
from lga_fast.editors import read_config
from lga_fast.errors import DataError, LgaFastError, shortened

_COMMANDS = ("study", "select", "edit", "evaluate")  # the first where a file names none
# The options that say which members' fields are options too.
_MEMBERS = {
    "lga_fast.studies": "study",
    "lga_fast.selectors": "selector",
    "lga_fast.editors": "editor",
}


def run(file: Path, out: Path | None) -> None:
    """Run the command that the file describes; `out` replaces its folder.

    Raises:
        DataError: the file is no YAML with keys and values, or some of these are unknown or bad;
            one message names all of them.
    """
    values = dict(read_config(file))
    name = values.pop("command", _COMMANDS[0])
    if name not in _COMMANDS:
        raise DataError(
            f"{file}: command: expected one of {', '.join(_COMMANDS)}, got {shortened(str(name))}"
        )
    if out:
        values["out"] = str(out)
    command = registry.member("lga_fast.commands", name).command()
    arguments, problems = _checked(command, values)
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise DataError(f"{file}: expected options of `lga-fast {name}`, got:{listed}")
    parent = click.get_current_context().parent
    with command.make_context(name, arguments, parent=parent) as ctx:
        command.invoke(ctx)


def _checked(command: click.Command, values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """A command's arguments, and what is wrong with keys and values of its file."""
    known = _recipe.keys(command)
    arguments: list[str] = []
    given: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in values.items():
        name, shown = str(key).replace("_", "-"), shortened(str(key), 60)
        if name not in known:
            problems.append(f"{shown}: no such option{_hint(name, [*known, 'command'])}")
        elif name in given:
            problems.append(f"{shown}: it is there twice, with - and with _")
        else:
            given[name] = value
            try:
                arguments += _recipe.arguments(known[name], value)
            except ValueError as error:
                problems.append(f"{shown}: {error}")
                del given[name]
    for name, param in known.items():
        if param.required and name not in map(str, values):
            problems.append(f"{name}: missing{_choices(param)}")
    return arguments, problems + _fields_problems(known, given)


def _fields_problems(known: Mapping[str, click.Parameter], given: Mapping[str, Any]) -> list[str]:
    """Options of members that are out of their limits, or that none of the chosen members has."""
    problems = []
    for name, value in given.items():
        param = known[name]
        if not isinstance(param, FieldOption) or value is None:
            continue
        chooser = _MEMBERS[param.package]
        members = given.get(chooser, known[chooser].default)
        members = members.split(",") if isinstance(members, str) else members
        if param.multiple and not isinstance(value, list):
            value = [value]
        try:
            own = {str(param.name): value}
            registry.configured_together(param.package, members or (), param.kind, own)
        except LgaFastError as error:
            problems.append(str(error))
    return problems


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _choices(param: click.Parameter) -> str:
    kind = param.type
    return f": one of {', '.join(kind.choices)}" if isinstance(kind, click.Choice) else ""
