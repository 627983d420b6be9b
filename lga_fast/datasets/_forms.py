"""A loader is a list of forms: recognising the form of a file and reading its records."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from lga_fast import registry
from lga_fast.datasets._fields import CaseIds, Record, own_id
from lga_fast.datasets._files import Source, describe, read_source
from lga_fast.datasets._report import Loaded, LoadedEdits, LoadReport, Provenance
from lga_fast.errors import DataError
from lga_fast.records import EditRequest

T = TypeVar("T")
PACKAGE = "lga_fast.datasets"


@dataclass(frozen=True)
class Form(Generic[T]):
    """One way in which files of a data set lay out their records."""

    name: str
    needs: frozenset[str]  # fields of every record, by which the form is recognised
    read: Callable[[Record], T]
    without: frozenset[str] = frozenset()  # fields of another form
    unused: frozenset[str] = frozenset()  # fields known to be present and of no use here
    case_id: str = "case_id"  # field of the file's own id, if it has one

    def fits(self, fields: Iterable[str]) -> bool:
        """Whether a record with these fields is of this form."""
        return self.needs <= set(fields) and not self.without & set(fields)


def fields(names: str) -> frozenset[str]:
    """Field names from one string with spaces between."""
    return frozenset(names.split())


def load_edits_file(path: Path, name: str, forms: Sequence[Form[EditRequest]]) -> LoadedEdits:
    """The edit requests of a file in one of `forms`."""
    return LoadedEdits(*_load(path, name, forms))


def load_file(path: Path, name: str, forms: Sequence[Form[T]]) -> Loaded[T]:
    """The records of a file in one of `forms`, whatever they are."""
    return Loaded(*_load(path, name, forms))


def read_record(
    source: Source, index: int, raw: Any, form: Form[T], ids: CaseIds, report: LoadReport
) -> T:
    """Record `index` of `source` read as `form`; raises `DataError` if it has another form."""
    record = Record(raw, source.place(index), index, report)
    own = own_id(record, form.case_id)
    record.case_id = ids.take(own, index)
    if record.case_id != (own or str(index)):
        record.note("duplicate_case_id", f"was {own or index}")
    item = form.read(record)
    record.close(form.unused)
    return item


def loaders_for(record: Any) -> list[str]:
    """Names of the data sets that read records like this one, the closest form first."""
    return list(dict.fromkeys(name for name, _ in _fitting(record)))


def fitting_forms(record: Any) -> list[Form[Any]]:
    """The forms of any data set that records like this one have, the closest first."""
    return [form for _, form in _fitting(record)]


def _fitting(record: Any) -> list[tuple[str, Form[Any]]]:
    """Data sets and their forms that fit a record, the one that needs the most fields first."""
    if not isinstance(record, dict):
        return []
    modules = {
        name: importlib.import_module(f"{PACKAGE}.{name}") for name in registry.names(PACKAGE)
    }
    forms = [(name, form) for name, module in modules.items() for form in module.FORMS]
    fitting = [(name, form) for name, form in forms if form.fits(record)]
    return sorted(fitting, key=lambda one: -len(one[1].needs))


def _load(
    path: Path, name: str, forms: Sequence[Form[T]]
) -> tuple[list[T], LoadReport, Provenance]:
    source = read_source(path)
    form = _choose(source, name, forms)
    report, ids = LoadReport(len(source.records)), CaseIds()
    items = [
        read_record(source, index, raw, form, ids, report)
        for index, raw in enumerate(source.records)
    ]
    return items, report, Provenance(name, form.name, path.name, source.sha256)


def _choose(source: Source, name: str, forms: Sequence[Form[T]]) -> Form[T]:
    """The form of the file, going by the fields of its first record."""
    first = source.records[0]
    if not isinstance(first, dict):
        raise DataError(
            f"{source.place(0)}: expected an object with named fields, got {describe(first)}"
        )
    fitting = [form for form in forms if form.fits(first)]
    if fitting:
        return max(fitting, key=lambda form: len(form.needs))
    known = []
    for form in forms:
        lacks = sorted(form.needs - first.keys())
        why = (
            f"lacks {', '.join(lacks)}" if lacks else f"has {', '.join(form.without & set(first))}"
        )
        known.append(f"  {form.name} ({', '.join(sorted(form.needs))}); the record {why}")
    others = [other for other in loaders_for(first) if other != name]
    hint = (
        f"The data set {others[0]!r} reads such records: give that name instead of {name!r}."
        if others
        else f"No data set reads such records; there are: {', '.join(registry.names(PACKAGE))}."
    )
    raise DataError(
        f"{source.place(0)}: its form is none of those that {name!r} reads. "
        f"Its fields are {', '.join(sorted(first)) or '(none)'}.\n"
        + "\n".join([f"Forms of {name!r}:", *known, hint])
    )
