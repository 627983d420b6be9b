"""What a loader noticed about its records, and where they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, SupportsIndex, TypeVar, overload

from lga_fast.records import EditRequest

T = TypeVar("T")
L = TypeVar("L", bound="Loaded[Any]")

#: Every kind of finding. All but "dropped" leave the record in; items and aliases are left out.
FINDINGS = {
    "dropped": "records that were read but are not in the list",
    "duplicate_case_id": "case ids that an earlier record has too; a suffix was added",
    "subject_absent": "subjects that are not verbatim in their prompt; subject_span is None",
    "subject_repeated": "subjects more than once in their prompt; the first occurrence is taken",
    "subject_inside_word": "subjects that begin or end inside a longer word of the prompt",
    "filled_template": "prompts with '{}' and without their subject; it was filled in",
    "unfilled_template": "prompts with '{}' that nothing fills; it stays as text",
    "edge_whitespace": "texts with white space at an end; subjects are trimmed, others kept",
    "blank_field": "optional fields that are there but blank; read as absent",
    "empty_group": "probe groups without items",
    "blank_prompt": "probe items with a blank prompt; left out",
    "missing_answer": "probe items without any answer; left out",
    "blank_alias": "blank aliases and empty alias lists beside good ones; left out",
    "other_old_answers": "further old answers; target_old is the first",
    "placeholder_old_answer": "old answers that are only EasyEdit's end-of-text stand-in; left out",
    "target_is_old": "targets that are among the old answers already",
    "target_among_right": "new answers that the list of right answers has already",
    "right_and_wrong": "answers listed both as right and as wrong; kept in both lists",
    "needs_several_edits": "questions that follow from several edits together; left out",
    "unverified_text": "texts that the file's own check did not find to state their fact; kept",
    "repeated_choice": "questions with the same choice twice",
    "unused_field": "fields of the file that lga_fast has no use for",
    "unknown_field": "fields that are not part of the file's form; not read",
}


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about one record."""

    kind: str  # a key of FINDINGS
    record: int  # index in the file, from 0; in the list, where a record holds several requests
    case_id: str
    detail: str  # the field, or what was done


@dataclass
class LoadReport:
    """Counts and places of everything that a loader changed, skipped or found odd.

    Example:
        >>> edits.report.count("missing_answer")
        27
    """

    records: int  # in the file
    findings: list[Finding] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many findings there are of `kind`."""
        return len(self.where(kind))

    def where(self, kind: str) -> list[Finding]:
        """The findings of `kind`, in file order; raises KeyError for a kind that does not exist."""
        FINDINGS[kind]
        return [finding for finding in self.findings if finding.kind == kind]

    def fields(self, kind: str) -> dict[str, int]:
        """How often each detail of `kind` occurs, e.g. each unknown field."""
        return dict(Counter(finding.detail for finding in self.where(kind)))

    def to_json(self) -> dict[str, Any]:
        """The report as plain data; findings about fields as counts, others as lists."""
        out: dict[str, Any] = {"records": self.records}
        for kind in FINDINGS:
            if kind.endswith("_field") and kind != "blank_field":
                out[kind] = self.fields(kind)
            else:
                out[kind] = [asdict(finding) for finding in self.where(kind)]
        return {key: value for key, value in out.items() if value or key == "records"}

    def __str__(self) -> str:
        """One line per kind of finding, for people."""
        lines = [f"{self.records} records"]
        for kind, meaning in FINDINGS.items():
            findings = self.where(kind)
            if not findings:
                continue
            if kind.endswith("_field"):
                counts = self.fields(kind)
                tail = ", ".join(f"{name} ({n})" for name, n in counts.items())
            else:
                tail = "records " + ", ".join(str(f.record) for f in findings[:8])
                tail += ", …" if len(findings) > 8 else ""
            lines.append(f"{len(findings)} {meaning}: {tail}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Provenance:
    """Where records came from: enough to tell whether two runs read the same data."""

    name: str  # of the loader
    form: str  # which of the loader's forms
    file: str | None  # file name without folders; None for data given in memory
    sha256: str  # of the file's bytes, or of the requests as JSON Lines


class Loaded(list[T], Generic[T]):
    """A list of records with the `report` and `provenance` of loading them."""

    def __init__(self, items: Iterable[T], report: LoadReport, provenance: Provenance) -> None:
        """Keep `items` together with what is known about them."""
        super().__init__(items)
        self.report = report
        self.provenance = provenance

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self: L, index: slice) -> L: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """A record; of a slice, its records with the report and provenance of them all."""
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return super().__getitem__(index)

    def take(self: L, places: Iterable[int]) -> L:
        """The records at these places, in this order, with the report and provenance of all."""
        return type(self)((self[i] for i in places), self.report, self.provenance)

    def first(self: L, limit: int | None) -> L:
        """The first `limit` records and their findings; the others are listed as dropped."""
        if limit is None or limit >= len(self):
            return self
        findings = [finding for finding in self.report.findings if finding.record < limit]
        for index in range(limit, len(self)):
            item = self[index]
            case_id = getattr(item, "case_id", str(index))
            findings.append(Finding("dropped", index, case_id, f"over the limit of {limit}"))
        return type(self)(self[:limit], LoadReport(self.report.records, findings), self.provenance)


class LoadedEdits(Loaded[EditRequest]):
    """Edit requests as loaded: a list, plus `report` and `provenance`."""
