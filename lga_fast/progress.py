"""Progress bars on stderr: seen on a terminal, silent elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(description: str, total: int, show: bool | None = None) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves the bar on by so many units of work.

    Args:
        description: what is being done.
        total: units in all.
        show: True or False; None: only where stderr is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda units: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda units: progress.advance(task, units)
