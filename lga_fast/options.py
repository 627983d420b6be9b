"""Options: fields of frozen dataclasses that state their limits and are checked on creation."""

from __future__ import annotations

import math
import operator
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lga_fast import registry
from lga_fast.errors import OptionError

_HALF_PAIR = re.compile("[\ud800-\udfff]")
SEEDS = {"min": 0, "max": 2**63 - 1}  # what torch and numpy both take


def option(default: Any, help: str, **limits: Any) -> Any:
    """A field of an `Options` class.

    Args:
        default: its value where none is given.
        help: one sentence, for the command line too.
        limits: of a number, `min` (the least) or `above` (just below the least), and beside
            `min` also `max`; of text, `member` (the package whose members' names it may be) or
            `path=True` (a file or folder that exists).
    """
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class Options:
    """Base of dataclasses with options: no instance holds an option out of its limits.

    Fields that are not made by `option` are not checked.

    Raises:
        OptionError: a value has another type than its field, or is out of the field's limits.
        UnknownName: it names a member that a registry does not have.
    """

    def __post_init__(self) -> None:
        """Check every option, and hold numbers that were given as text as numbers."""
        hints = get_type_hints(type(self))
        where = type(self).__module__.rpartition(".")[2]
        for one in fields(self):
            if "help" not in one.metadata:
                continue
            value = checked(
                getattr(self, one.name), hints[one.name], one.metadata, f"{where}: {one.name}"
            )
            object.__setattr__(self, one.name, value)


def checked(value: Any, hint: Any, limits: Mapping[str, Any], place: str) -> Any:
    """`value` in the type of a field.

    Args:
        value: numbers may be text, as in EasyEdit's files, where YAML reads `5e-1` as text.
        hint: int, float, bool, str, a Literal, a tuple[T, ...] of them, or one of these or None; a
            str may be a Mapping too.
        limits: see `option`.
        place: how an error names where the value was given.

    Raises:
        OptionError: the value has another type, is not finite, or lies out of the limits.
        UnknownName: it names no member of the registry in `limits`.
    """
    if get_origin(hint) in (Union, UnionType):  # of a type and None
        if value is None:
            return None
        if Mapping in get_args(hint) and isinstance(value, Mapping):
            return dict(value)
        (hint,) = set(get_args(hint)) - {NoneType, Mapping}
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        one = get_args(hint)[0]
        return tuple(checked(v, one, limits, f"{place}[{i}]") for i, v in enumerate(value))
    if get_origin(hint) is Literal and value in get_args(hint):
        return value
    if hint is str and isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if _HALF_PAIR.search(text):
            raise OptionError(f"{place}: expected text, got half a surrogate pair in {text!a:.60}")
        if "member" in limits:
            text = registry.canonical(limits["member"], text)
            registry.member(limits["member"], text)
        if limits.get("path") and not os.path.exists(os.path.expanduser(text)):
            raise OptionError(f"{place}: expected a file or folder that exists, got {text!r}")
        return text
    if hint is bool and isinstance(value, bool):
        return value
    if hint in (int, float):
        number = _number(value)
        low, above = limits.get("min", -math.inf), limits.get("above", -math.inf)
        within = above < number < math.inf and low <= number <= limits.get("max", math.inf)
        if within and (hint is float or number.is_integer()):
            return hint(number if isinstance(value, str) else value)
    raise OptionError(f"{place}: expected {_wanted(hint, limits)}, got {reprlib.repr(value)}")


def _number(value: Any) -> float:
    """`value` as a number, NaN if it is none."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value if isinstance(value, str | Real) else operator.index(value))
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _wanted(hint: Any, limits: Mapping[str, Any]) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    words = [names.get(hint) or f"a list, each {_wanted(get_args(hint)[0], {})}"]
    if {"min", "max"} <= limits.keys():
        words.append(f"from {limits['min']} to {limits['max']}")
    elif "min" in limits:
        words.append(f"of at least {limits['min']}")
    elif "above" in limits:
        words.append(f"above {limits['above']}")
    return " ".join(words)
