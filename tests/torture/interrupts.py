"""Exceptions raised at a line that the package runs, as a signal's handler would raise them."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = str(Path(__file__).parents[2] / "lga_fast")
KINDS = (KeyboardInterrupt, SystemExit, TimeoutError, MemoryError)

Line = tuple[str, int]


class Interrupt:
    """Notes the lines of the package that `run` executes, and raises at one of them.

    Args:
        at: number of the line, from 0; None: nothing is raised.
        error: what is raised there.
    """

    def __init__(self, at: int | None = None, error: type[BaseException] = KeyboardInterrupt):
        self._at, self._error = at, error
        self.lines: list[Line] = []

    @property
    def raised(self) -> bool:
        """Whether the line was reached."""
        return self._at is not None and len(self.lines) > self._at

    def run(self, work: Callable[[], Any]) -> None:
        """Do the work; what was raised, or followed from it, ends here."""
        sys.settrace(self._trace)
        try:
            work()
        except BaseException:
            if not self.raised:
                raise
        finally:
            sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.lines.append((frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_lineno))
            if len(self.lines) - 1 == self._at:
                raise self._error  # after which nothing is traced any more
        return self._trace


def places(work: Callable[[], Any], count: int, seed: int) -> list[tuple[int, type[BaseException]]]:
    """So many places in a piece of work and what to raise at each.

    Half are the last time that some line runs, among which is all that cleans up; half are drawn
    from all that runs.
    """
    plain, draw = Interrupt(), random.Random(seed)
    plain.run(work)
    last = list({line: number for number, line in enumerate(plain.lines)}.values())
    numbers = draw.sample(last, min(count // 2, len(last)))
    numbers += draw.choices(range(len(plain.lines)), k=count - len(numbers))
    return [(number, draw.choice(KINDS)) for number in numbers]
