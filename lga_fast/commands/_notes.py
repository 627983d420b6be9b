"""Warnings of lga_fast as notes of a report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lga_fast.errors import LgaFastWarning


@contextmanager
def recorded_notes() -> Iterator[list[str]]:
    """Yield a list that gets the text of every `LgaFastWarning`, which is then not shown.

    Warnings of other libraries are shown as usual: they say nothing about the user's edit.
    """
    notes: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def record(
            message: Warning | str, category: type[Warning], *place: Any, **more: Any
        ) -> None:
            if issubclass(category, LgaFastWarning):
                notes.append(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = record
        warnings.simplefilter("always", LgaFastWarning)
        yield notes
