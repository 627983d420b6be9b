"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import psutil


def write_atomic(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`: readers see the old file or the new one, never half of it."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; renamed to `path` on success, removed otherwise."""
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def clear_abandoned(path: Path) -> None:
    """Remove what `replacing` left beside `path` in processes that were killed."""
    for beside in path.parent.glob(f".{escape(path.stem)}.*.part{escape(path.suffix)}"):
        process = beside.name.removesuffix(path.suffix).removesuffix(".part").rpartition(".")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            beside.unlink(missing_ok=True)
