"""Reading the fields of one record, checked and counted, with errors that name the place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from lga_fast.datasets._files import describe
from lga_fast.datasets._report import Finding, LoadReport
from lga_fast.errors import DataError

_ABSENT = object()


class CaseIds:
    """Gives each record a unique case id: the file's own if it has one, else the index."""

    def __init__(self) -> None:
        """Start without any id in use."""
        self._taken: dict[str, int] = {}  # how often each was asked for

    def take(self, own: str | None, index: int) -> str:
        """An unused id for record `index`: `own`, else the index, with `#2`, ... if in use."""
        base = str(index) if own is None else own
        case_id, copy = base, self._taken.get(base, 0)
        while case_id in self._taken:
            copy += 1
            case_id = f"{base}#{copy}"
        self._taken[base] = max(copy, 1)
        self._taken[case_id] = 1
        return case_id


class Record:
    """One object of a file; remembers which of its fields were read."""

    def __init__(
        self, raw: Any, place: str, index: int, report: LoadReport, path: str = ""
    ) -> None:
        """Wrap `raw`; raises `DataError` when it is not an object."""
        self.place, self.index, self.report, self.path = place, index, report, path
        self.case_id = str(index)
        if not isinstance(raw, dict):
            where = f"{place}, field {path!r}" if path else place
            raise DataError(f"{where}: expected an object with named fields, got {describe(raw)}")
        self.raw: dict[str, Any] = raw
        self._read: set[str] = set()

    def fail(self, name: str, expected: str, got: Any, fix: str = "") -> DataError:
        """The error for field `name`: where it is, what was expected and found, how to fix it."""
        case_id = "" if self.case_id == str(self.index) else f" (case_id {self.case_id!r})"
        actual = "nothing: there is no such field" if got is _ABSENT else describe(got)
        fix = fix or f"Correct {name.partition('[')[0]!r} in that record, or remove the record."
        at = f"{self.place}{case_id}, field {self.path + name!r}"
        return DataError(f"{at}: expected {expected}, got {actual}. {fix}")

    def note(self, kind: str, detail: str) -> None:
        """Add a finding about this record to the report."""
        self.report.findings.append(Finding(kind, self.index, self.case_id, detail))

    def has(self, name: str) -> bool:
        """Whether field `name` is present and not null; counts as reading it."""
        return self.get(name) is not None

    def get(self, name: str) -> Any:
        """The raw value of `name`, None when absent."""
        self._read.add(name)
        return self.raw.get(name)

    def required(self, name: str) -> Any:
        """The raw value of `name`, which must be present."""
        value = self.get(name)
        if name not in self.raw:
            raise self.fail(name, "a value", _ABSENT)
        return value

    def text(self, name: str) -> str:
        """The non-blank text of `name`."""
        value = self.string(name, self.required(name))
        if not value.strip():
            raise self.fail(name, "text", value)
        return value

    def text_or_none(self, name: str) -> str | None:
        """The text of `name`; None if absent or null; None and a finding if blank."""
        value = self.get(name)
        if value is None:
            return None
        value = self.string(name, value)
        if value.strip():
            return value
        self.note("blank_field", self.path + name)
        return None

    def texts(self, name: str) -> list[str]:
        """The texts of a list field, blank ones included; a single text is a list of one."""
        value = self.required(name)
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple):
            raise self.fail(name, "a list of texts", value)
        return [self.string(f"{name}[{i}]", item) for i, item in enumerate(value)]

    def child(self, name: str) -> Record:
        """The object in field `name`, as a record that reports to the same place."""
        return self.inside(name, self.required(name))

    def children(self, name: str) -> list[Record]:
        """The objects in the list in field `name`, or its one object."""
        raw = self.required(name)
        if not isinstance(raw, list | dict) or not raw:
            raise self.fail(name, "an object, or a list of some", raw)
        if isinstance(raw, dict):
            return [self.child(name)]
        return [self.inside(f"{name}[{i}]", one) for i, one in enumerate(raw)]

    def inside(self, name: str, raw: Any) -> Record:
        """`raw`, found at `name` of this record, as a record that reports to the same place."""
        if not isinstance(raw, dict):
            raise self.fail(name, "an object with named fields", raw)
        child = Record(raw, self.place, self.index, self.report, f"{self.path}{name}.")
        child.case_id = self.case_id
        return child

    def unread(self) -> list[str]:
        """The fields that were never read."""
        return [name for name in self.raw if name not in self._read]

    def close(self, unused: Iterable[str] = ()) -> None:
        """Report the fields that were never read; `unused` names those known to be of no use."""
        for name in self.unread():
            full = re.sub(r"\[\d+\]", "[]", f"{self.path}{name}")
            self.note("unused_field" if name in unused else "unknown_field", full)

    def string(self, name: str, value: Any) -> str:
        """`value`, found at `name`, which must be text that UTF-8 can hold; it may be blank."""
        if isinstance(value, str) and value.isascii():
            return value
        if not isinstance(value, str):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            fix = f'Write it in quotes: "{value}".' if number else ""
            raise self.fail(name, "text", value, fix)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.fail(
                name,
                "text that UTF-8 can hold",
                value[error.start : error.end],
                "It is half of a surrogate pair: write both halves, or the character itself.",
            ) from None
        return value


def own_id(record: Record, name: str) -> str | None:
    """The record's own id from field `name` as text; None if there is none."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise record.fail(name, "a number or text as id", value)
    text = "" if value is None else record.string(name, str(value))
    return text if text.strip() else None


def note_subject_place(record: Record, name: str, prompt: str, span: tuple[int, int]) -> None:
    """Report a subject that is more than once in the prompt, or inside a longer word."""
    start, end = span
    if prompt.count(prompt[start:end]) > 1:
        record.note("subject_repeated", name)
    joins = (prompt[max(start - 1, 0) : start + 1], prompt[end - 1 : end + 1])
    if any(len(join) == 2 and join.isalnum() for join in joins):
        record.note("subject_inside_word", name)


def note_edges(record: Record, name: str, value: str) -> str:
    """`value` unchanged; white space at its ends goes to the report."""
    if value != value.strip():
        record.note("edge_whitespace", name)
    return value
