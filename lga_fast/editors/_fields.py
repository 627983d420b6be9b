"""Values of an editor's fields, checked by what its dataclass declares."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping
from numbers import Real
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from lga_fast.errors import EditError


def checked(value: Any, hint: Any, limits: Mapping[str, Any], place: str) -> Any:
    """`value` in the type of a field.

    Args:
        value: numbers may be text, as in EasyEdit's files, where YAML reads `5e-1` as text.
        hint: int, float, bool, str, a Literal, a tuple[T, ...] of them, or one of these or None.
        limits: `min` (the least) or `above` (just below the least) of a number.
        place: how an error names where the value was given.

    Raises:
        EditError: the value has another type, is not finite, or lies out of the limits.
    """
    if isinstance(hint, UnionType):  # of a type and None
        if value is None:
            return None
        (hint,) = set(get_args(hint)) - {NoneType}
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        one = get_args(hint)[0]
        return tuple(checked(v, one, limits, f"{place}[{i}]") for i, v in enumerate(value))
    if get_origin(hint) is Literal and value in get_args(hint):
        return value
    if hint is str and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint in (int, float):
        number = _number(value)
        low, above = limits.get("min", -math.inf), limits.get("above", -math.inf)
        if above < number < math.inf and number >= low and (hint is float or number.is_integer()):
            return hint(number if isinstance(value, str) else value)
    raise EditError(f"{place}: expected {_wanted(hint, limits)}, got {reprlib.repr(value)}")


def _number(value: Any) -> float:
    """`value` as a number, NaN if it is none."""
    try:
        plain = isinstance(value, str | Real) and not isinstance(value, bool)
        return float(value) if plain else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _wanted(hint: Any, limits: Mapping[str, Any]) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    words = [names.get(hint) or f"a list, each {_wanted(get_args(hint)[0], {})}"]
    words += [f"of at least {limits['min']}"] if "min" in limits else []
    words += [f"above {limits['above']}"] if "above" in limits else []
    return " ".join(words)
