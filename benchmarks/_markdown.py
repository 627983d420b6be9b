"""What the tables share: results files, Markdown, and where numbers come from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

HERE = Path(__file__).resolve().parent


def results(name: str) -> dict[str, Any]:
    """A results file, or one without rows if it does not exist."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"rows": [], "environment": {}}


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *([str(c) for c in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def panel(show: Callable[[Any, Console], None], report: Any) -> str:
    """A report as a terminal shows it."""
    screen = io.StringIO()
    show(report, Console(file=screen, width=100, color_system=None))
    return f"```text\n{screen.getvalue()}```\n"


def source(name: str, command: str) -> str:
    """Where a table's numbers come from; the link is relative to this folder."""
    where = results(name)["environment"]
    device = where.get("cuda_device") or f"{where['cpu']}, threads: {where['threads']}"
    return (
        f"\n`{command}`, commit {str(where['commit'])[:12]}, torch {where['torch']}, "
        f"{device}; [results/{name}.json](results/{name}.json)\n"
    )


def spread(values: dict[str, float], digits: int = 1) -> str:
    """A median with its extremes."""
    low, high = (f"{values[end]:.{digits}f}" for end in ("min", "max"))
    return f"{values['median']:.{digits}f} ({low} to {high})"
