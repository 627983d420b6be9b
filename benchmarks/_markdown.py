"""What README's tables share: results files, Markdown, and where numbers come from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

HERE = Path(__file__).resolve().parent


def results(name: str) -> dict[str, Any]:
    """A results file, or one without rows where it has not been made."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"rows": [], "environment": {}}


def rows_of(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *([str(c) for c in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def panel(show: Callable[[Any, Console], None], what: Any) -> str:
    """What a report shows on a terminal."""
    screen = io.StringIO()
    show(what, Console(file=screen, width=100, color_system=None))
    return f"```text\n{screen.getvalue()}```\n"


def made_by(name: str, command: str) -> str:
    """Where a table's numbers come from."""
    where = results(name)["environment"]
    if not where:
        return ""
    device = where.get("cuda_device") or f"{where['cpu']}, threads: {where['threads']}"
    return (
        f"\n`{command}`, commit {str(where['commit'])[:12]}, torch {where['torch']}, "
        f"{device}; [results/{name}.json](benchmarks/results/{name}.json)\n"
    )
