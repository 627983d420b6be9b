"""A loader is a list of forms: recognising the form of a file and reading its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    read: Callable[[Record], T | list[T]]  # a list: a record that holds several, or none
    without: frozenset[str] = frozenset()  # fields of another form
    unused: frozenset[str] = frozenset()  # fields known to be present and of no use here
    case_id: str = "case_id"  # field of the file's own id, if it has one
    inside: Mapping[str, frozenset[str]] = field(default_factory=dict)  # needs of inner objects

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is of this form, going by its fields."""
        outside = self.needs <= record.keys() and not self.without & record.keys()
        return outside and all(
            names <= _inner(record.get(name)).keys() for name, names in self.inside.items()
        )

    @property
    def closeness(self) -> int:
        """How many fields it is recognised by."""
        return len(self.needs) + sum(map(len, self.inside.values()))


def _inner(value: Any) -> Mapping[str, Any]:
    """An inner object, or the first of a list of them."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, Mapping) else {}


def fields(names: str) -> frozenset[str]:
    """Field names from one string with spaces between."""
    return frozenset(names.split())


def load_edits_file(path: Path, name: str, forms: Sequence[Form[EditRequest]]) -> LoadedEdits:
    """The edit requests of a file in one of `forms`."""
    return LoadedEdits(*_load(path, name, forms))


def load_file(path: Path, name: str, forms: Sequence[Form[T]]) -> Loaded[T]:
    """The records of a file in one of `forms`, whatever they are."""
    return Loaded(*_load(path, name, forms))


def read_records(source: Source, form_of: Callable[[Any], Form[T]]) -> tuple[list[T], LoadReport]:
    """What the records of `source` hold, each read in the form that `form_of` gives for it.

    A finding's record is the place in this list of the first item that its record holds.

    Raises:
        DataError: a record has another form.
    """
    report, ids = LoadReport(len(source.records)), CaseIds()
    items: list[T] = []
    for number, raw in enumerate(source.records):
        index, place = len(items), source.place(number)
        items += read_record(place, index, raw, form_of(raw), ids, report)
    return items, report


def read_record(
    place: str, index: int, raw: Any, form: Form[T], ids: CaseIds, report: LoadReport
) -> list[T]:
    """What a record holds, read as `form`; raises `DataError` if it has another form."""
    record = Record(raw, place, index, report)
    own = own_id(record, form.case_id)
    record.case_id = ids.take(own, index)
    if record.case_id != (own or str(index)):
        record.note("duplicate_case_id", f"was {own or index}")
    items = form.read(record)
    record.close(form.unused)
    return items if isinstance(items, list) else [items]


def loaders_for(record: Any) -> list[str]:
    """Names of the data sets that read records like this one, the closest form first."""
    return list(dict.fromkeys(name for name, _ in fitting(record, every_form())))


def every_form() -> list[tuple[str, Form[Any]]]:
    """The forms of all data sets, with their names."""
    modules = {name: registry.member(PACKAGE, name) for name in registry.names(PACKAGE)}
    return [(name, form) for name, module in modules.items() for form in module.FORMS]


def fitting(record: Any, forms: Iterable[tuple[str, Form[Any]]]) -> list[tuple[str, Form[Any]]]:
    """Those of the forms that a record has, the one that needs the most fields first."""
    fitting = [one for one in forms if isinstance(record, dict) and one[1].fits(record)]
    return sorted(fitting, key=lambda one: -one[1].closeness)


def _load(
    path: Path, name: str, forms: Sequence[Form[T]]
) -> tuple[list[T], LoadReport, Provenance]:
    source = read_source(path)
    form = _choose(source, name, forms)
    items, report = read_records(source, lambda _: form)
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
        return max(fitting, key=lambda form: form.closeness)
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
