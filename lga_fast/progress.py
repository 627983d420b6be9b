"""Progress bars on stderr: seen on a terminal, silent elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

from lga_fast import distributed
from lga_fast.undo import undone

_SILENT = object()
_around: ContextVar[Any] = ContextVar("around", default=None)  # what the bar around draws on

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)

_PERIOD = 3600.0  # seconds that a rate is taken over: one step of the work may take minutes


@contextmanager
def bar(description: str, total: int, show: bool | None = None) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves the bar on by so many units of work.

    A bar shows how much is done, the rate, and the time that is left. One inside another is drawn
    below it.

    Args:
        description: what is being done.
        total: units in all.
        show: True or False; None: as the bar around it, or only where stderr is a terminal.
    """
    outer, show = _around.get(), shown(show)
    below = show and outer not in (None, _SILENT)
    drawn: Any = outer if below else _new() if show else _SILENT
    with undone((), partial(_around.set, outer)):
        _around.set(drawn)
        with drawn if show and not below else nullcontext():
            if not show:
                yield lambda units: None
                return
            task = drawn.add_task(description, total=total)
            try:
                yield lambda units: drawn.advance(task, units)
            finally:
                if below:
                    drawn.remove_task(task)


@contextmanager
def silenced() -> Iterator[None]:
    """Neither bars nor logs, whatever asks for them."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def shown(show: bool | None = None) -> bool:
    """Whether a bar is seen, of several ranks on the first; `show` as of `bar`."""
    if _quiet.get() or not distributed.current().is_rank_zero:
        return False
    if show is not None:
        return show
    outer = _around.get()
    return sys.stderr.isatty() if outer is None else outer is not _SILENT


def log(text: str) -> None:
    """Write to where bars are drawn, above them; nothing where they are silenced."""
    outer = _around.get()
    if _quiet.get():
        return
    if outer in (None, _SILENT):
        print(text, file=sys.stderr)
    else:
        outer.console.print(text, highlight=False, markup=False)


def _new() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    class Rate(ProgressColumn):
        def render(self, task: Any) -> str:
            return rate(task.finished_speed or task.speed)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate())
    return Progress(
        *columns,
        Remaining(),
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=_PERIOD,
    )


def rate(speed: float | None) -> str:
    """Units per second for people; seconds per unit where that is the larger number."""
    if not speed:
        return ""
    return f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
