"""Data sets: every module of this folder without a leading underscore reads one kind of file.

A member has `read(path: Path) -> Loaded`, and `FORMS`, by which a file passed to the wrong member
is recognised. A member whose data ships with lga_fast also has `default_path() -> Path`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lga_fast import registry
from lga_fast.datasets._files import read_source
from lga_fast.datasets._forms import loaders_for
from lga_fast.datasets._report import (
    FINDINGS,
    Finding,
    Loaded,
    LoadedEdits,
    LoadReport,
    Provenance,
)
from lga_fast.datasets._requests import about_prompts, easyedit_requests, with_subject
from lga_fast.datasets._split import Split, split
from lga_fast.datasets.jsonl import write_jsonl
from lga_fast.errors import DataError, UnknownName
from lga_fast.options import checked
from lga_fast.parsing import parse_path

# The token that an editor changes: the subject's last one, or the prompt's.
FactToken = Literal["subject_last", "last"]

__all__ = [
    "FINDINGS",
    "FactToken",
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
    "with_subject",
    "write_jsonl",
]


def load_edits(
    name_or_dicts: Any,
    path: str | Path | None = None,
    limit: int | None = None,
    fact_token: FactToken = "subject_last",
) -> LoadedEdits:
    """Edit requests from a file of data set `name`, or from whatever holds them in memory.

    In memory they are a list of requests or dicts, a dict of columns, or a dataset object: see
    `easyedit_requests`. The list carries `report` (what was odd or left out) and `provenance`. All
    records are read; `limit` keeps the first ones. With the `fact_token` "last", editors change the
    prompt's last token, for data without subjects: the subject is the whole prompt.

    Raises:
        UnknownName: there is no data set of this name.
        DataError: a file or record does not have the form it should have.
        OptionError: `limit` is not a whole number of at least 1, or there is no such `fact_token`.

    Example:
        >>> edits = load_edits("zsre", "ZsRE-test-all.json", limit=100)
        >>> len(edits), edits.report.records
        (100, 1304)
    """
    checked(fact_token, FactToken, {}, "load_edits: fact_token")
    if not isinstance(name_or_dicts, str):
        if path is not None:
            raise DataError(f"load_edits got requests and the path {path}; give one of them")
        limit = _checked(limit)
        loaded = easyedit_requests(name_or_dicts).first(limit)
    else:
        loaded = load(name_or_dicts, path, limit)
    if not isinstance(loaded, LoadedEdits):
        kind = type(loaded[0]).__name__ if loaded else "other"
        raise DataError(
            f"the data set {name_or_dicts!r} holds {kind} records, not edits. "
            f"Read it with lga_fast.datasets.load({name_or_dicts!r}, ...)."
        )
    return loaded if fact_token == "subject_last" else about_prompts(loaded)


def load(name: str, path: str | Path | None = None, limit: int | None = None) -> Loaded[Any]:
    """The records of a file of data set `name`, of whatever kind; errors as for `load_edits`.

    Example:
        >>> load("mmlu", "mmlu_1516.jsonl")[0].choices[0]
        '(4x 4) + (4x5)'
    """
    limit = _checked(limit)
    try:
        member = registry.member(__name__, name)
    except UnknownName:
        if path is None and Path(name).suffix and (file := parse_path(name)).is_file():
            fitting = loaders_for(read_source(file).records[0])
            first = fitting[0] if fitting else "NAME"
            raise DataError(
                f"{name!r} is a file; give the data set's name first: "
                f"load_edits({first!r}, {name!r})"
            ) from None
        raise
    if path is not None:
        file = parse_path(path)
    else:
        default = getattr(member, "default_path", None)
        if default is None:
            raise DataError(
                f"the data set {name!r} does not come with lga_fast; give the path of its file: "
                f"load_edits({name!r}, PATH)"
            )
        file = default()
    return member.read(file).first(limit)


def of_file(path: str | Path) -> str:
    """Name of the data set whose form a file has, going by its first record.

    Raises `DataError` if no data set reads such records.

    Example:
        >>> of_file("ZsRE-test-all.json")
        'zsre'
    """
    source = read_source(parse_path(path))
    fitting = loaders_for(source.records[0])
    if not fitting:
        raise DataError(
            f"{source.place(0)}: no data set reads such records. Write them as JSON Lines with "
            "prompt, subject and target_new, or name the data set that should read them."
        )
    return fitting[0]


def _checked(limit: int | None) -> int | None:
    return checked(limit, int | None, {"min": 1}, "load_edits: limit")
