"""Values that an `Options` class must refuse."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def refused(kind: type) -> list[tuple[str, Any]]:
    """For every option a value of no allowed type, and values just outside of its limits."""
    values: list[tuple[str, Any]] = []
    for field in fields(kind):
        limits = field.metadata
        values.append((field.name, object()))
        if "min" in limits:
            values.append((field.name, _like(field.default, limits["min"] - 1)))
        if "max" in limits:
            values.append((field.name, _like(field.default, limits["max"] + 1)))
        if "above" in limits:
            values.append((field.name, limits["above"]))
        if limits.get("path"):
            values.append((field.name, "no/such/file"))
    return values


def _like(default: Any, value: float) -> Any:
    return (value,) if isinstance(default, tuple) else value
