"""Packages that only some metrics need."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from lga_fast.errors import MetricError


def require(metric: str, packages: Mapping[str, str]) -> None:
    """Refuse a metric whose packages are not installed; nothing is imported.

    Args:
        metric: its name.
        packages: from the name of a module to the name that pip installs it by.

    Raises:
        MetricError: with the command that installs what is missing.
    """
    missing = [pip for module, pip in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MetricError(
            f"metric {metric!r} needs {', '.join(missing)}, not installed here. Install all extras "
            f"with pip install 'lga-fast[eval]', or only these: pip install {' '.join(missing)}"
        )
