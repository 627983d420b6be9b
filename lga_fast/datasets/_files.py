"""Reading files of records, with errors that name the place."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lga_fast.errors import DataError
from lga_fast.parsing import parse_json

_LINE_SUFFIXES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Source:
    """The raw records of a file or of a list in memory."""

    name: str  # the path as given, or a name for a list in memory
    records: list[Any]
    lines: list[int] | None = None  # of each record, from 1; JSON Lines only
    sha256: str = ""

    def place(self, index: int) -> str:
        """How an error names record `index`."""
        line = f"line {self.lines[index]}, " if self.lines else ""
        return f"{self.name}: {line}record {index}"


def read_source(path: Path) -> Source:
    """The records of a JSON list, of JSON Lines or of a CSV file; UTF-8 with or without a BOM.

    A file named .csv is CSV, with names in its first line; an empty cell is null. A text that
    begins with `[` is a list; a file named .jsonl, or a text whose first line is a complete object,
    is JSON Lines. Raises `DataError` for anything else.
    """
    data = _bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected UTF-8 text, but byte {error.start} is 0x{data[error.start]:02x}. "
            "Save the file as UTF-8."
        ) from None
    body = text.lstrip()
    if not body:
        raise DataError(f"{path}: the file is empty; expected a JSON list of records or JSON Lines")
    if path.suffix == ".csv":
        return Source(str(path), *_csv(path, text), hashlib.sha256(data).hexdigest())
    if body[0] not in "[{":
        raise DataError(
            f"{path}: expected a JSON list of records or JSON Lines, but the text begins "
            f"{describe(body[:40])}. {_advice(body)}"
        )
    lines = None
    if body.startswith("{") and (path.suffix in _LINE_SUFFIXES or _object_per_line(body)):
        records, lines = _json_lines(path, text)
    else:
        records = _json(path, text)
        if not isinstance(records, list):
            raise DataError(
                f"{path}: expected a list of records, got {describe(records)}. "
                "Put the records into one JSON list, or one record on each line."
            )
        if not records:
            raise DataError(f"{path}: the list has no records")
    return Source(str(path), records, lines, hashlib.sha256(data).hexdigest())


def describe(value: Any) -> str:
    """A value for an error message: short, and with its type unless it is text."""
    if isinstance(value, dict):
        keys = ", ".join(map(repr, list(value)[:6]))
        return f"an object with {'fields ' + keys if keys else 'no fields'}"
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if isinstance(value, str) or value is None else f"{text} ({type(value).__name__})"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        folder = path.parent
        siblings = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        missing = "there is no such file" if folder.is_dir() else f"there is no folder {folder}"
        raise DataError(f"{path}: {missing}.{hint}") from None
    except IsADirectoryError:
        files = sorted(
            p.name for p in path.iterdir() if p.suffix in (".json", ".csv", *_LINE_SUFFIXES)
        )
        hint = f"one of its files: {', '.join(files[:6])}" if files else "a .json or .jsonl file"
        raise DataError(f"{path}: expected a file, got a folder. Give {hint}.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _object_per_line(body: str) -> bool:
    try:
        return isinstance(parse_json(body.partition("\n")[0]), dict)
    except ValueError:
        return False


def _csv(path: Path, text: str) -> tuple[list[Any], list[int]]:
    records, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(reader)
        for row in reader:
            if len(row) != len(names):
                raise DataError(
                    f"{path}: line {reader.line_num}: expected {len(names)} cells, one for each "
                    f"name of the first line, got {len(row)}. Quote cells that contain commas."
                )
            records.append({name: cell or None for name, cell in zip(names, row, strict=True)})
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not CSV: {error}") from None
    if not records:
        raise DataError(f"{path}: there are no records below the first line")
    return records, lines


def _json_lines(path: Path, text: str) -> tuple[list[Any], list[int]]:
    records, lines = [], []
    # not splitlines(): it also cuts at U+2028 and U+0085, which JSON strings may hold as they are
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            records.append(_json(path, line, first_line=number))
            lines.append(number)
    return records, lines


def _json(path: Path, text: str, first_line: int = 1) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in names if names.count(name) > 1)
            start = describe(dict(pairs[:1]).get(names[0]))
            raise DataError(
                f"{path}: field {repeated!r} appears twice in the object that begins "
                f"{names[0]!r}: {start}. Keep one."
            )
        return record

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        msg = error.msg.removesuffix(" starting at")
        raise DataError(
            f"{path}: line {line} column {error.colno}: not JSON: {msg}. "
            f"{_why_not_json(text, error)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: line {first_line}: not JSON that can be read: {error}") from None


def _advice(body: str) -> str:
    if body.startswith("version https://git-lfs"):
        return "It is a Git LFS pointer; fetch the file itself (git lfs pull)."
    if body.startswith("<"):
        return "It looks like a web page; download the raw file."
    return "Give another file."


def _why_not_json(text: str, error: json.JSONDecodeError) -> str:
    if error.msg == "Extra data":
        return "A second value follows; for one record per line name the file .jsonl."
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "The text ends too early; the file may be a partial download."
    return "Correct the text there."
