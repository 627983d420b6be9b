"""What an evaluation finds: per request, and in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Average:
    """One value over the requests that have it."""

    mean: float
    sd: float  # over requests, n - 1 in the denominator; 0 of a single one
    count: int


@dataclass(frozen=True)
class CaseResult:
    """What one request's edit did: every metric's values before and after it.

    A value is None where the request has nothing to measure it with. Of work done for several
    requests together each gets an equal share of the seconds.
    """

    case_id: str
    layer: int
    before: dict[str, float | None]  # of the unedited model
    after: dict[str, float | None]
    notes: tuple[str, ...] = ()  # what there is to know of its edit
    seconds_edit: float = 0.0
    seconds_measure: float = 0.0
    peak_bytes: int = 0  # most memory held until then: see `lga_fast.provenance.peak_bytes`

    @property
    def known(self) -> bool | None:
        """Whether the model gave the new answer before; None where `rewrite` was not measured."""
        rewrite = self.before.get("rewrite")
        return None if rewrite is None else rewrite == 1


@dataclass(frozen=True)
class Summary:
    """An evaluation in a few numbers."""

    cases: int
    before: dict[str, Average]  # by name of value, over the cases that have it
    after: dict[str, Average]
    known: int | None  # cases whose new answer the model gave before; None: `rewrite` not measured
    noted: int  # cases with notes of their edit
    dropped: int  # records of the data that were left out
    seconds_edit: float  # of all cases together
    seconds_measure: float
    peak_bytes: int

    @property
    def edits_per_second(self) -> float:
        """Cases per second of editing and measuring; 0 where no time was taken."""
        seconds = self.seconds_edit + self.seconds_measure
        return self.cases / seconds if seconds else 0.0


class Evaluation(list[CaseResult]):
    """The results of all cases in the order of the requests, with `summary` and `provenance`."""

    def __init__(
        self, results: Iterable[CaseResult], summary: Summary, provenance: dict[str, Any]
    ) -> None:
        """Keep `results` together with what is known about them."""
        super().__init__(results)
        self.summary = summary
        self.provenance = provenance

    def __repr__(self) -> str:
        """The number of cases and the means after the edits."""
        means = ", ".join(f"{name} {one.mean:.3g}" for name, one in self.summary.after.items())
        return f"Evaluation({len(self)} cases: {means})"

    def _repr_html_(self) -> str | None:
        from lga_fast.reports.notebook import evaluation_html

        return evaluation_html(self)

    def to_json(self) -> str:
        """Summary, provenance and every case as JSON text."""
        from lga_fast.reports.evaluation import to_json

        return to_json(self)
