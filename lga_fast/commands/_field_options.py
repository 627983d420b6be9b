"""Command-line options made from the fields of a registry's members; nothing imports torch."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any

import click

from lga_fast import registry
from lga_fast.commands import _static
from lga_fast.commands._static import StaticField


class FieldOption(click.Option):
    """The option of a field that members of a package have."""

    package = ""
    kind = ""


def fields(package: str, kind: str, taken: Collection[str] = ()) -> list[FieldOption]:
    """One option per field of any member's dataclass; each field states its own help text.

    Args:
        package: of the members.
        kind: the name of the dataclass in every member.
        taken: fields that the command already has options for.
    """
    members = registry.names(package)
    owners: dict[str, dict[str, StaticField]] = {}
    for member in members:
        for name, field in getattr(_static.module(f"{package}.{member}"), kind).fields.items():
            if name not in taken:
                owners.setdefault(name, {})[member] = field
    options = [_option(name, whose, members) for name, whose in owners.items()]
    for option in options:
        option.package, option.kind = package, kind
    return options


def take(package: str, options: dict[str, Any]) -> dict[str, Any]:
    """Take the values of `fields` of a package out of the running command's."""
    params = click.get_current_context().command.params
    names = [p.name for p in params if isinstance(p, FieldOption) and p.package == package]
    return specified({name: options.pop(name) for name in names if name})


def specified(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of `fields` that the user gave."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def _option(name: str, owners: Mapping[str, StaticField], members: Sequence[str]) -> FieldOption:
    """The option of a field; `owners`: the members that have it."""
    field = next(iter(owners.values()))
    flag = "--" + name.replace("_", "-")
    text = field.metadata["help"]
    settings: dict[str, Any] = {}
    if field.hint is bool:  # both ways: a preset or a file may turn it on
        flag += f"/--no-{flag.removeprefix('--')}"
        settings["default"] = None
    else:
        settings = _click_type(field.hint)
        text += " Can be repeated." if settings.get("multiple") else ""
    prefix = "" if list(owners) == members else f"{', '.join(owners)}: "
    return FieldOption([flag, name], help=f"{prefix}{text}{_defaults(owners)}", **settings)


def _defaults(owners: Mapping[str, StaticField]) -> str:
    """The default of a field in most of its owners, and any that differ."""
    by_value: dict[Any, list[str]] = {}
    for name, field in owners.items():
        by_value.setdefault(field.default, []).append(name)
    usual = max(by_value, key=lambda value: len(by_value[value]))
    parts = [] if usual in (None, ()) or isinstance(usual, bool) else [str(usual)]
    parts += [f"{', '.join(names)}: {value}" for value, names in by_value.items() if value != usual]
    return f"  [default: {'; '.join(parts)}]" if parts else ""


def _click_type(hint: Any) -> dict[str, Any]:
    if isinstance(hint, UnionType):  # of a type and None, and what only Python can give
        (hint,) = set(typing.get_args(hint)) - {NoneType, Mapping}
    if typing.get_origin(hint) is typing.Literal:
        return {"type": click.Choice(typing.get_args(hint))}
    if typing.get_origin(hint) is tuple:
        return _click_type(typing.get_args(hint)[0]) | {"multiple": True}
    return {"type": hint}
