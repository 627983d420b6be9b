"""Files: destinations checked before the work, results written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import psutil

from lga_fast.errors import DataError


def cache_folder(name: str) -> Path:
    """The user's folder for what is expensive to make or to fetch again; it need not exist."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the standard: ignored if relative
    return (base if base.is_absolute() else Path.home() / ".cache") / "lga_fast" / name


def check_writable(path: str | Path, *, folder: bool = False) -> None:
    """Refuse a destination that cannot be written, before the work whose result goes there.

    Nothing stays behind: missing folders are not created, and the probe is an unnamed file.

    Args:
        path: of the file, or with `folder` of the folder, that will be written; its parents may
            be missing.
        folder: whether `path` is to be a folder.

    Raises:
        DataError: the destination cannot be written, or is a folder where a file is expected, or
            the other way round.
    """
    path = Path(path)
    wanted, other = ("a folder", "a file") if folder else ("a file", "a folder")
    try:
        if path.exists() and path.is_dir() != folder:
            raise DataError(f"{path}: expected {wanted} to write, got {other}. Give another path.")
        nearest = next(p for p in (*([path] if folder else []), *path.parents) if p.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise DataError(
            f"{path}: expected {wanted} that can be written, got: {error.strerror or error}. Give "
            "another path, or make its folder writable."
        ) from None


def write_atomic(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`: readers see the old file or the new one, never half of it."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; renamed to `path` on success, removed otherwise."""
    beside = unfinished(path)
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Where this process writes what shall be the file or folder `path`."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def clear_abandoned(path: Path) -> None:
    """Remove what processes that were killed left `unfinished` beside `path`."""
    for beside in path.parent.glob(f".{escape(path.stem)}.*.part{escape(path.suffix)}"):
        process = beside.name.removesuffix(path.suffix).removesuffix(".part").rpartition(".")[2]
        if not process.isdecimal() or psutil.pid_exists(int(process)):
            continue
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)
