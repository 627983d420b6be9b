"""The folder is the registry: a member is a file of a package, its file stem is its public name.

Other installed packages add members by entry points: the group is the package, the name is the file
stem, the value the module. Under `[project.entry-points."lga_fast.selectors"]` the line
`my_selector = "my_package.my_selector"` adds a selector everywhere, on the command line too.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import pkgutil
import reprlib
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from lga_fast.errors import UnknownName


def names(package: str) -> list[str]:
    """Public names of `package`'s members, sorted; neither they nor the package are imported.

    Example:
        >>> names("lga_fast.editors")
        ['alphaedit', 'emmet', 'memit', 'pmet', 'r_rome', 'rome']
    """
    modules = pkgutil.iter_modules([str(source(package).parent)])
    own = {m.name for m in modules if not m.name.startswith("_")}
    if twice := own & registered(package).keys():
        name = min(twice)
        raise UnknownName(
            f"{package} has a member {name!r}, and {registered(package)[name]!r} is registered "
            "under this name too: expected another name in its package's entry points."
        )
    return sorted(own | registered(package).keys())


@cache
def registered(package: str) -> dict[str, str]:
    """Modules of other packages' members, by the members' names."""
    return {point.name: point.value for point in entry_points(group=package)}


def canonical(package: str, name: str) -> str:
    """The member that `name` spells as papers do, such as R-ROME; else `name` as it is."""
    plain = str(name).lower().replace("-", "_")
    known = names(package)
    return plain if name not in known and plain in known else name


def summary(package: str, name: str) -> str:
    """The first line of member `name`'s docstring; the member is not imported."""
    text = source(f"{package}.{name}").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def source(module: str) -> Path:
    """The file of a module or package; of its parents only the topmost package is imported."""
    top, *below = module.split(".")
    path = Path(importlib.import_module(top).__path__[0], *below)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    package, _, name = module.rpartition(".")
    if file.exists() or name not in registered(package):
        return file
    where = registered(package)[name]
    spec = importlib.util.find_spec(where)
    if spec is None or spec.origin is None:
        raise UnknownName(f"{module}: expected a module {where!r}, got none; reinstall its package")
    return Path(spec.origin)


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


def configured_together(
    package: str, names: Sequence[str], kind: str, options: dict[str, Any]
) -> dict[str, Any]:
    """Members' dataclasses `kind` by name, each made with those of the options that it has.

    Raises:
        UnknownName: there is no such member, or none of them has such an option.
    """
    if len(names) == 1:
        return {names[0]: configured(package, names[0], kind, options)}
    classes = {name: getattr(member(package, name), kind) for name in names}
    known = {name: {field.name for field in fields(cls)} for name, cls in classes.items()}
    if unknown := set(options).difference(*known.values()):
        raise UnknownName(
            f"none of the {kind.lower()}s {', '.join(names)} has an option "
            f"{', '.join(sorted(unknown))}. "
            f"They have: {', '.join(sorted(set().union(*known.values())))}."
        )
    return {name: cls(**of_member(package, name, kind, options)) for name, cls in classes.items()}


def of_member(package: str, name: str, kind: str, offered: dict[str, Any]) -> dict[str, Any]:
    """Those of the offered options that a member's dataclass `kind` has."""
    known = {field.name for field in fields(getattr(member(package, name), kind))}
    return {key: value for key, value in offered.items() if key in known}


def member(package: str, name: str) -> ModuleType:
    """The module of member `name`.

    Raises:
        UnknownName: there is none; the message has the nearest names and the full list.
    """
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(str(name)[:60], known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        kind = package.rpartition(".")[2]
        raise UnknownName(
            f"no {reprlib.repr(name)} in {kind}.{hint} There are: {', '.join(known)}."
        )
    return importlib.import_module(registered(package).get(name, f"{package}.{name}"))
