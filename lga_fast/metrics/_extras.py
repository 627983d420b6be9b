"""Packages that only some metrics need."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from lga_fast.errors import MetricError


def need(metric: str, packages: Mapping[str, str]) -> None:
    """Refuse a metric whose packages are not installed; nothing is imported.

    Args:
        metric: its name.
        packages: modules, and how pip calls them.

    Raises:
        MetricError: with the line that installs them.
    """
    missing = [pip for module, pip in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MetricError(
            f"metric {metric!r} needs {', '.join(missing)}, not installed here. They come with "
            f"pip install 'lga-fast[eval]'; or alone: pip install {' '.join(missing)}"
        )
