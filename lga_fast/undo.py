"""Changes for a while, each written down with how to undo it before it is made.

An interrupt (Ctrl-C, a signal's handler, an alarm, lack of memory) may come at any line, also while
a change is undone. So undoing can be repeated: the end of the `with` tries twice, and what is not
done then stays written down for the next use of the same objects (`finish`) or for `restore`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False)
class _Change:
    """A change that is in effect, or about to be."""

    of: Collection[Hashable]  # the objects that it concerns; none: the process
    undo: Callable[[], object]
    ended: bool = False  # its `with` was left

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.ended = True
        finish(self.of)


_changes: dict[_Change, None] = {}  # in the order of their beginning


@contextmanager
def undone(of: Collection[Hashable], undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` when the `with` is left, whatever interrupts what is inside or `undo` itself.

    Later changes of the same objects whose own undoing was interrupted are undone first.

    Args:
        of: the objects that are changed inside; none: what belongs to the process.
        undo: puts back what may have changed, all of it or some; must bear being called again.
    """
    change = _Change(of, undo)
    with change, change:  # the outer one goes on where the inner one is interrupted
        _changes[change] = None
        yield


def finish(objects: Iterable[Hashable]) -> None:
    """Undo the changes of any of these objects that have ended, the latest first."""
    if not (ended := [change for change in list(_changes) if change.ended]):
        return
    objects = set(objects)
    for change in reversed(ended):
        if not change.of or not objects.isdisjoint(change.of):
            change.undo()
            _changes.pop(change, None)


def restore(objects: Iterable[Hashable]) -> None:
    """Undo all changes of any of these objects, also those whose `with` was not left."""
    objects = set(objects)
    for change in list(_changes):
        change.ended |= not objects.isdisjoint(change.of)
    finish(objects)
