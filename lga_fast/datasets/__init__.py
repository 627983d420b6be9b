"""Data sets: every module of this folder without a leading underscore reads one family of files.

A member has `read(path: Path) -> Loaded`, and `FORMS`, by which a file given to the wrong member is
recognised. A member whose data lga_fast ships also has `default_path() -> Path`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lga_fast import registry
from lga_fast.datasets import jsonl
from lga_fast.datasets._fields import CaseIds
from lga_fast.datasets._files import Source, read_source, shown
from lga_fast.datasets._forms import loaders_for, read_record
from lga_fast.datasets._report import (
    FINDINGS,
    Finding,
    Loaded,
    LoadedEdits,
    LoadReport,
    Provenance,
)
from lga_fast.datasets._split import Split, split
from lga_fast.datasets.jsonl import write_jsonl
from lga_fast.errors import DataError, UnknownName
from lga_fast.records import EditRequest

__all__ = [
    "FINDINGS",
    "Finding",
    "LoadReport",
    "Loaded",
    "LoadedEdits",
    "Provenance",
    "Split",
    "easyedit_requests",
    "load",
    "load_edits",
    "of_file",
    "split",
    "write_jsonl",
]


def load_edits(
    name_or_dicts: str | Iterable[EditRequest | Mapping[str, Any]],
    path: str | Path | None = None,
    limit: int | None = None,
) -> LoadedEdits:
    """Edit requests from a file of data set `name`, or from requests and EasyEdit dicts in memory.

    The list carries `report` (what was odd or left out) and `provenance`. `limit` keeps the first
    records, after all were read. Raises `UnknownName` for a name that is no data set, and
    `DataError` for a file or record that does not have the form it should have.

    Example:
        >>> edits = load_edits("zsre", "ZsRE-test-all.json", limit=100)
        >>> len(edits), edits.report.records
        (100, 1304)
    """
    if not isinstance(name_or_dicts, str):
        if path is not None:
            raise DataError(f"load_edits got requests and the path {path}; give one of them")
        return _limited(easyedit_requests(name_or_dicts), limit)
    loaded = load(name_or_dicts, path, limit)
    if not isinstance(loaded, LoadedEdits):
        kind = type(loaded[0]).__name__ if loaded else "other"
        raise DataError(
            f"the data set {name_or_dicts!r} holds {kind} records, not edits. "
            f"Read it with lga_fast.datasets.load({name_or_dicts!r}, ...)."
        )
    return loaded


def load(name: str, path: str | Path | None = None, limit: int | None = None) -> Loaded[Any]:
    """The records of a file of data set `name`, of whatever kind they are; errors as `load_edits`.

    Example:
        >>> load("mmlu", "mmlu_1516.jsonl")[0].choices[0]
        '(4x 4) + (4x5)'
    """
    try:
        member = registry.member(__name__, name)
    except UnknownName:
        if path is None and Path(name).suffix and Path(name).expanduser().is_file():
            fitting = loaders_for(read_source(Path(name).expanduser()).records[0])
            first = fitting[0] if fitting else "NAME"
            raise DataError(
                f"{name!r} is a file; give the data set's name first: "
                f"load_edits({first!r}, {name!r})"
            ) from None
        raise
    if path is not None:
        file = Path(path).expanduser()
    else:
        default = getattr(member, "default_path", None)
        if default is None:
            raise DataError(
                f"the data set {name!r} does not come with lga_fast; give the path of its file: "
                f"load_edits({name!r}, PATH)"
            )
        file = default()
    return _limited(member.read(file), limit)


def of_file(path: str | Path) -> str:
    """Name of the data set whose form a file has, told by its first record.

    Raises `DataError` when no data set reads such records.

    Example:
        >>> of_file("ZsRE-test-all.json")
        'zsre'
    """
    source = read_source(Path(path).expanduser())
    fitting = loaders_for(source.records[0])
    if not fitting:
        raise DataError(
            f"{source.place(0)}: no data set reads such records. Write them as JSON Lines with "
            "prompt, subject and target_new, or name the data set that should read them."
        )
    return fitting[0]


def easyedit_requests(items: Iterable[EditRequest | Mapping[str, Any]]) -> LoadedEdits:
    """Edit requests from dicts in EasyEdit's request form, edit requests, or a mixture of both.

    A dict has `prompt` and `target_new`, and may have `subject, ground_truth, rephrase_prompt`,
    `locality` and `portability` as `{group: {"prompt": ..., "ground_truth": ...}}`, and `case_id`.
    Case ids that come twice get a suffix, which the report says. What is a `LoadedEdits` already is
    given back. Raises `DataError` for all else.

    Example:
        >>> fact = {"prompt": "Rome lies in", "subject": "Rome", "target_new": "France"}
        >>> easyedit_requests([fact])[0].subject_span
        (0, 4)
    """
    if isinstance(items, LoadedEdits):
        return items
    if isinstance(items, str | Mapping | EditRequest) or not isinstance(items, Iterable):
        raise DataError(f"expected a list of requests, got {shown(items)}. Put it into a list.")
    source = Source("requests", list(items))
    report, ids = LoadReport(len(source.records)), CaseIds()
    requests = []
    for index, item in enumerate(source.records):
        if not isinstance(item, EditRequest):
            raw = dict(item) if isinstance(item, Mapping) else item
            requests.append(read_record(source, index, raw, jsonl.FORMS[0], ids, report))
            continue
        case_id = ids.take(item.case_id, index)
        if case_id != item.case_id:
            report.findings.append(
                Finding("duplicate_case_id", index, case_id, f"was {item.case_id}")
            )
            item = dataclasses.replace(item, case_id=case_id)
        requests.append(item)
    made = Provenance("requests", "in memory", None, jsonl.checksum(requests))
    return LoadedEdits(requests, report, made)


def _limited(loaded: Loaded[Any], limit: int | None) -> Any:
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise DataError(f"limit={limit!r}: expected a whole number of records, 1 or more, or None")
    return loaded.first(limit)
