"""Asking what metrics want to know of requests, once each, and handing them the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from lga_fast.errors import MetricError
from lga_fast.evaluation_records import Average
from lga_fast.metrics._generation import Continuation, Continued, generate
from lga_fast.metrics._scoring import Answered, Question, score
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit

Ask = Question | Continuation
Answer = Answered | Continued
Values = dict[str, float | None]  # None: the request has nothing to measure it with
Before = dict[Ask, Answer]  # what a model answers, to be reused


@runtime_checkable
class CaseMetric(Protocol):
    """What most members' `Metric` does; its dataclass fields are its options."""

    unit: str
    higher_is_better: bool
    headline: tuple[str, ...]  # of its values those that `overall` counts

    def questions(self, request: EditRequest) -> Sequence[Ask]:
        """What to ask the model about one request; equal questions are asked once."""
        ...

    def measure(self, request: EditRequest, before: Sequence[Any], after: Sequence[Any]) -> Values:
        """Values by name, from the answers to `questions(request)` before and after the edit."""
        ...


@runtime_checkable
class SummaryMetric(Protocol):
    """What a member does that asks nothing: it combines the others' values."""

    unit: str
    higher_is_better: bool
    headline: tuple[str, ...]

    def combine(self, values: Mapping[str, float | None]) -> Values:
        """Values by name, from the other metrics' headline values of one request."""
        ...


def measure_cases(
    model: EditableModel,
    requests: Sequence[EditRequest],
    edits: Sequence[WeightEdit | None] | None,
    metrics: Mapping[str, CaseMetric | SummaryMetric],
    before: Before | None = None,
    *,
    batch_tokens: int = 4096,
    show_progress: bool | None = None,
) -> tuple[list[Values], Before]:
    """Measure every request with every metric.

    All questions of all metrics and requests are gathered, equal ones asked once, in one pass that
    carries each request's own edit. The model stays as it was.

    Args:
        model: see `lga_fast.load`.
        requests: what to measure.
        edits: one per request. None: the model as it stands, e.g. inside `with model.edited(...)`,
            or unedited, for the values before an edit.
        metrics: by name, see `lga_fast.metrics.choose`.
        before: what an earlier call gave back; None: it is asked now, of the model as it stands.
        batch_tokens: see `score`.
        show_progress: None shows bars on a terminal only.

    Returns:
        The values of each request, and the answers before the edit. They hold for every request
        and metric that took part, whatever the edits, so a sweep over layers asks them once.

    Raises:
        MetricError: there is not one edit per request, or `before` lacks an answer.
    """
    if edits is not None and len(edits) != len(requests):
        raise MetricError(f"edits: expected one per request, {len(requests)}, got {len(edits)}")
    asking = {n: m for n, m in metrics.items() if isinstance(m, CaseMetric)}
    asked = [{n: list(m.questions(request)) for n, m in asking.items()} for request in requests]
    every = dict.fromkeys(ask for case in asked for asks in case.values() for ask in asks)
    run = _Asking(model, batch_tokens, show_progress)
    if before is None:
        before = dict(zip(every, run.ask(list(every), {}, None), strict=True))
        as_before = edits is None
    else:
        _check_before(before, every)
        as_before = False
    own = [None] * len(requests) if edits is None else edits
    keys = {
        (ask, id(edit)): edit
        for case, edit in zip(asked, own, strict=True)
        for asks in case.values()
        for ask in asks
    }
    if as_before:
        after = {key: before[key[0]] for key in keys}
    else:
        answers = run.ask([ask for ask, _ in keys], before, list(keys.values()))
        after = dict(zip(keys, answers, strict=True))
    cases = []
    for request, case, edit in zip(requests, asked, own, strict=True):
        old = {name: [before[ask] for ask in asks] for name, asks in case.items()}
        new = {name: [after[ask, id(edit)] for ask in asks] for name, asks in case.items()}
        cases.append(_measure(request, metrics, old, new))
    return cases, before


def _measure(
    request: EditRequest,
    metrics: Mapping[str, CaseMetric | SummaryMetric],
    before: Mapping[str, Sequence[Answer]],
    after: Mapping[str, Sequence[Answer]],
) -> Values:
    """One request's values: of the metrics that asked, then of those that combine."""
    values: Values = {}
    headline: Values = {}
    for name, metric in metrics.items():
        if isinstance(metric, CaseMetric):
            found = metric.measure(request, before[name], after[name])
            values |= found
            headline |= {key: found[key] for key in metric.headline}
    for metric in metrics.values():
        if isinstance(metric, SummaryMetric):
            values |= metric.combine(headline)
    return values


def averages(cases: Sequence[Values]) -> dict[str, Average]:
    """Mean and spread of every value over the requests that have it; some request must."""
    found: dict[str, list[float]] = {}
    for name, value in (item for case in cases for item in case.items()):
        found.setdefault(name, [])
        if value is not None:
            found[name].append(value)
    return {name: _average(values) for name, values in found.items() if values}


def _average(values: Sequence[float]) -> Average:
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Average(mean, math.sqrt(squares / max(1, len(values) - 1)), len(values))


def _check_before(before: Before, asks: Mapping[Ask, Any]) -> None:
    missing = [ask for ask in asks if ask not in before]
    if missing:
        raise MetricError(
            f"before: expected answers to all {len(asks)} questions of these requests and metrics, "
            f"{len(missing)} are missing, such as {missing[0]!r}. Measure the unedited model with "
            "the same requests and metrics first."
        )


@dataclass(frozen=True)
class _Asking:
    """How questions of both kinds are asked."""

    model: EditableModel
    batch_tokens: int
    show_progress: bool | None

    def ask(
        self, asks: Sequence[Ask], before: Before, edits: Sequence[WeightEdit | None] | None
    ) -> list[Answer]:
        """Answers in the order of `asks`; rows that `before` has are not tokenised again."""
        found: dict[int, Answer] = {}
        for kind, run in ((Question, score), (Continuation, generate)):
            where = [i for i, ask in enumerate(asks) if isinstance(ask, kind)]
            items = [_row(asks[i], before) for i in where]
            own = None if edits is None else [edits[i] for i in where]
            answers = run(
                self.model,
                cast(Any, items),
                own,
                batch_tokens=self.batch_tokens,
                show_progress=self.show_progress,
            )
            found |= zip(where, answers, strict=True)
        return [found[i] for i in range(len(asks))]


def _row(ask: Ask, before: Before) -> Any:
    known = before.get(ask)
    return known.row if isinstance(known, Answered) else ask
