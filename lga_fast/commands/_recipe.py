"""A command's options as a command line and as YAML, and a YAML's values as a command line."""

from __future__ import annotations

import reprlib
import shlex
from pathlib import Path
from typing import Any

import click
import yaml
from click.core import ParameterSource

from lga_fast import __version__
from lga_fast.commands._options import Names
from lga_fast.files import write_atomic

_NUMBERS = (click.types.IntParamType, click.types.FloatParamType)


def command_line() -> str:
    """The running command with the options that the user gave."""
    ctx = click.get_current_context()
    given = [
        (param, ctx.params[param.name])
        for param in ctx.command.params
        if param.name in ctx.params
        and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    tokens = [token for param, value in given for token in arguments(param, plain(value))]
    return shlex.join(["lga-fast", str(ctx.info_name), *tokens])


def write(path: Path) -> None:
    """Write the running study's options as a file for `lga-fast run`, defaults included."""
    ctx = click.get_current_context()
    values = {
        key: plain(value)
        for key, param in keys(ctx.command).items()
        if (value := ctx.params[str(param.name)]) not in (None, ())
    }
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    write_atomic(path, f"# lga_fast {__version__}; `lga-fast run FILE` repeats it.\n{text}")


def keys(command: click.Command) -> dict[str, click.Parameter]:
    """A command's options by their names without dashes before them, and its arguments."""
    named = {}
    for param in command.params:
        if param.expose_value:
            option = isinstance(param, click.Option)
            named[param.opts[0].lstrip("-") if option else str(param.name)] = param
    return named


def plain(value: Any) -> Any:
    """An option's value as YAML and `arguments` take it."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def arguments(param: click.Parameter, value: Any) -> list[str]:
    """What stands on a command line for an option's value of a YAML file.

    Raises:
        ValueError: the option cannot have this value.
    """
    if value is None:
        return []
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, got {reprlib.repr(value)}")
        return param.opts[:1] if value else param.secondary_opts[:1]
    listed = value if isinstance(value, list) else [value]
    if isinstance(param.type, Names):
        listed = [",".join(map(_text, listed))]
    elif len(listed) != 1 and not getattr(param, "multiple", False):
        raise ValueError(f"expected one value, got {reprlib.repr(value)}")
    texts = [_text(one, numeric=isinstance(param.type, _NUMBERS)) for one in listed]
    for text in texts:
        try:
            param.type.convert(text, param, None)
        except click.BadParameter as error:
            raise ValueError(error.message.rstrip(".")) from None
    if isinstance(param, click.Argument):
        return texts
    return [f"{param.opts[0]}={text}" for text in texts]


def _text(value: Any, numeric: bool = False) -> str:
    if numeric and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value
    hint = "" if isinstance(value, dict | list) else "; put it in quotes"
    wanted = "a number" if numeric else f"text{hint}"
    raise ValueError(f"expected {wanted}, got {reprlib.repr(value)}")
