"""Files: destinations checked before the work, results written whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from lga_fast.errors import DataError, shortened
from lga_fast.parsing import parse_path

_MAX_PART = 40  # characters of each part of an unfinished file's name


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
    path = parse_path(path)
    wanted, other = ("a folder", "a file") if folder else ("a file", "a folder")
    try:
        if path.exists() and not (path.is_dir() if folder else path.is_file()):
            other = other if path.is_dir() or path.is_file() else "a device or the like"
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


def append(path: Path, text: str) -> None:
    """Add UTF-8 `text` to a file, all of it or none; a process killed meanwhile leaves a part.

    Raises:
        DataError: it cannot be written; the file is as before.
    """
    with writing(path), path.open("r+b", buffering=0) as file:
        size, rest = file.seek(0, os.SEEK_END), memoryview(text.encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            os.truncate(path, size)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What keeps `path` from being written inside becomes one paragraph.

    Raises:
        DataError: the disk is full, the folder is read-only or missing, ...
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # of no file: a TimeoutError that an alarm raises
        reason = getattr(error, "strerror", None) or shortened(str(error))
        raise DataError(
            f"{path}: expected to write it, got: {reason}. What was there is as before. Free some "
            "space, make its folder writable, or give another path."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; renamed to `path` on success, removed otherwise.

    Raises:
        DataError: it cannot be written; `path` is as before.
    """
    with writing(path), replacing_all([path]) as (beside,):
        yield beside


@contextmanager
def replacing_all(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """`replacing` for files that belong together, of which the first says that they are there.

    All are on the disk in full before the first old one goes. That is removed before the others are
    renamed, and its new one comes last: what is killed in between leaves no first one, rather than
    one beside others that it does not fit.
    """
    for path in paths:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: expected a file to replace, got a folder or a device.")
        clear_abandoned(path)
    besides = [unfinished(path) for path in paths]
    try:
        mode = _usual_mode(besides[0])
        yield besides
        for beside in besides:
            beside.chmod(mode)
            flush(beside)
        if len(paths) > 1:
            paths[0].unlink(missing_ok=True)
        for beside, path in reversed([*zip(besides, paths, strict=True)]):
            beside.replace(path)
    finally:
        for beside in besides:
            beside.unlink(missing_ok=True)


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """No other process is in here with the same file or folder; None: nothing is locked.

    Raises:
        DataError: another one is.
    """
    if path is None:
        yield
        return
    name = f".{path.stem[:_MAX_PART]}.{zlib.crc32(path.name.encode()):08x}.lock"
    lock = FileLock(path.with_name(name), timeout=0)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise DataError(
                f"{path}: another process is writing it. Wait for that one, or give another path."
            ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # before another process can have it
        lock.release()


def flush(path: Path) -> None:
    """Wait until a file is on the disk, which may only now turn out to be full."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _usual_mode(path: Path) -> int:
    """The permissions of a file that is opened to be written, which safetensors' files lack."""
    path.touch()
    return path.stat().st_mode


def share_all(folder: Path) -> None:
    """Give every file below `folder` the permissions of one that is opened to be written."""
    probe = folder / ".mode"
    mode = _usual_mode(probe)
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def unfinished(path: Path) -> Path:
    """Where to write what shall be the file or folder `path`; another path at every call."""
    pid, host = os.getpid(), _host()
    writer = f"{host}-{pid}-{_started(pid)}-{secrets.token_hex(4)}"
    return path.with_name(f"{_begin(path)}{writer}.part{path.suffix[-_MAX_PART:]}")


def clear_abandoned(path: Path) -> None:
    """Remove what processes of this machine that were killed left `unfinished` beside `path`."""
    end = f".part{path.suffix[-_MAX_PART:]}"
    for beside in path.parent.glob(f"{escape(_begin(path))}*{escape(end)}"):
        writer = beside.name.removeprefix(_begin(path)).removesuffix(end)
        match = re.fullmatch(r"(.+)-(\d+)-(\d+)-[0-9a-f]{8}", writer)
        if not match or match[1] != _host() or _started(int(match[2])) == int(match[3]):
            continue
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)


def _begin(path: Path) -> str:
    return f".{path.stem[:_MAX_PART]}."


def _host() -> str:
    return re.sub(r"\W", "_", socket.gethostname(), flags=re.ASCII)[:_MAX_PART]


def _started(pid: int) -> int | None:
    """When a process of this machine began, which tells it from a later one of the same number."""
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
