"""Packages that only some parts of lga_fast need."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from lga_fast.errors import LgaFastError


def missing(packages: Iterable[str]) -> list[str]:
    """Those packages that are not installed; nothing is imported."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def need(what: str, packages: Iterable[str], extra: str) -> None:
    """Refuse to start without these packages.

    Args:
        what: needs them.
        packages: as they are imported.
        extra: of lga-fast, which installs them.

    Raises:
        LgaFastError: a package is missing; the message has the command that installs it.
    """
    if lacking := missing(packages):
        raise LgaFastError(f"{what} needs {', '.join(lacking)}: pip install 'lga-fast[{extra}]'")
