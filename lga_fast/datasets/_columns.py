"""A dict of columns, as EasyEdit's editors take it, turned into one dict for each request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lga_fast.datasets import _spellings
from lga_fast.datasets._files import describe
from lga_fast.errors import DataError


def is_columns(items: Any) -> bool:
    """Whether `items` is a dict whose prompts are a list."""
    return isinstance(items, Mapping) and any(_is_list(items.get(n)) for n in _spellings.PROMPT)


def rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One dict for each prompt; a column is a list, or a dict of columns, or None.

    Raises:
        DataError: a column has not one value for each prompt.

    Example:
        >>> rows({"prompts": ["p", "q"], "locality_inputs": {"near": {"prompt": ["r", None]}}})
        [{'prompts': 'p', 'locality_inputs': {'near': {'prompt': 'r'}}}, {'prompts': 'q'}]
    """
    count = len(next(columns[name] for name in _spellings.PROMPT if _is_list(columns.get(name))))
    return [_row(columns, index, count) for index in range(count)]


def _row(columns: Mapping[str, Any], index: int, count: int, path: str = "") -> dict[str, Any]:
    row = {}
    for name, column in columns.items():
        if isinstance(column, Mapping):
            value = _row(column, index, count, f"{path}{name}.") or None
        elif column is None:
            value = None
        elif _is_list(column) and len(column) == count:
            value = column[index]
        else:
            got = f"{len(column)} values" if _is_list(column) else describe(column)
            raise DataError(
                f"requests: column {path + name!r}: expected a list of {count}, one value for each "
                f"prompt, got {got}. Write None where a request has no value."
            )
        if value is not None:
            row[name] = value
    return row


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def as_list(items: Any) -> list[Any] | None:
    """The items of a list, of columns, or of a dataset object; None if it is none of these.

    A dataset object of torch has a length and items by number, and need not be iterable.
    """
    if is_columns(items):
        return rows(items)
    if isinstance(items, str | bytes | Mapping):
        return None
    if isinstance(items, Iterable):
        return list(items)
    if hasattr(items, "__len__") and hasattr(items, "__getitem__"):
        return [items[index] for index in range(len(items))]
    return None
