"""The folder is the registry: a member is a file of a package, its file stem is its public name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import fields
from types import ModuleType
from typing import Any

from lga_fast.errors import UnknownName


def names(package: str) -> list[str]:
    """Public names of `package`'s members, sorted; nothing but the package itself is imported.

    Example:
        >>> names("lga_fast.editors")
        ['alphaedit', 'emmet', 'memit', 'pmet', 'r_rome', 'rome']
    """
    path = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))


def configured(package: str, name: str, kind: str, options: dict[str, Any]) -> Any:
    """Member `name`'s dataclass `kind`, made with these options.

    Raises:
        UnknownName: there is no such member, or it has no such option.
    """
    cls = getattr(member(package, name), kind)
    known = [field.name for field in fields(cls)]
    if unknown := set(options) - set(known):
        raise UnknownName(
            f"{kind.lower()} {name!r} has no option {', '.join(sorted(unknown))}. "
            f"It has: {', '.join(known) or 'none'}."
        )
    return cls(**options)


def member(package: str, name: str) -> ModuleType:
    """The module of member `name`.

    Raises:
        UnknownName: there is none; the message has the nearest names and the full list.
    """
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        kind = package.rpartition(".")[2]
        raise UnknownName(f"no {name!r} in {kind}.{hint} There are: {', '.join(known)}.")
    return importlib.import_module(f"{package}.{name}")
