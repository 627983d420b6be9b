"""Measuring requests: the metrics' questions are gathered, asked once each, and handed back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from lga_fast.datasets import easyedit_requests
from lga_fast.errors import MetricError
from lga_fast.evaluation_records import Average
from lga_fast.metrics._generation import Continuation, GeneratedText, generate
from lga_fast.metrics._scoring import Question, ScoredAnswer, score
from lga_fast.models import EditableModel, check_loaded
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit

Query = Question | Continuation
Answer = ScoredAnswer | GeneratedText
Values = dict[str, float | None]  # None: the request lacks what the value is measured with
Before = dict[Query, Answer]  # the unedited model's answers, to be reused


@runtime_checkable
class CaseMetric(Protocol):
    """A member's `Metric` that questions the model; its fields are its options."""

    unit: str
    higher_is_better: bool
    headline: tuple[str, ...]  # those of its values that `overall` counts

    def questions(self, request: EditRequest) -> Sequence[Query]:
        """What to ask the model about one request; equal questions are asked once."""
        ...

    def measure(self, request: EditRequest, before: Sequence[Any], after: Sequence[Any]) -> Values:
        """Values by name, from the answers to `questions(request)` before and after the edit."""
        ...


@runtime_checkable
class GroupedMetric(Protocol):
    """A `CaseMetric` with a value for each group of a request's probes as well."""

    def groups(self, request: EditRequest) -> list[str]:
        """Names of these values."""
        ...


@runtime_checkable
class SummaryMetric(Protocol):
    """A member's `Metric` that asks nothing and combines the other metrics' values."""

    unit: str
    higher_is_better: bool
    headline: tuple[str, ...]

    def combine(self, values: Mapping[str, float | None]) -> Values:
        """Values by name, from the other metrics' headline values of one request.

        Raises:
            MetricError: an option does not fit the names of these values.
        """
        ...


@runtime_checkable
class AggregateMetric(Protocol):
    """A `CaseMetric` with values of all requests together as well."""

    def aggregate(self, means: Mapping[str, Average]) -> dict[str, Average]:
        """Values by name, from the averages over requests; their spread is 0."""
        ...


def measurable(
    metrics: Mapping[str, CaseMetric | SummaryMetric],
    requests: Sequence[EditRequest | dict[str, Any]],
) -> list[str]:
    """Headline values and groups that any of the requests can have; no model is needed to tell."""
    checked = easyedit_requests(requests)
    names: list[str] = []
    for metric in metrics.values():
        if isinstance(metric, SummaryMetric) or any(map(metric.questions, checked)):
            names += metric.headline
        if isinstance(metric, GroupedMetric):
            names += [name for request in checked for name in metric.groups(request)]
    return list(dict.fromkeys(names))


def measure_cases(
    model: EditableModel,
    requests: Sequence[EditRequest | dict[str, Any]],
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
        requests: what to measure: requests, or dicts in EasyEdit's form.
        edits: one per request. None: the model as it stands, e.g. inside `with model.edited(...)`,
            or unedited, for the values before an edit.
        metrics: by name, see `lga_fast.metrics.choose`.
        before: answers that an earlier call returned; None: the model is asked now, as it stands.
        batch_tokens: see `score`.
        show_progress: None shows bars on a terminal only.

    Returns:
        The values of each request, and the answers before the edit. These do not depend on the
        edits, so a sweep over layers asks them once.

    Raises:
        DataError: one of `requests` has not the form of a request.
        MetricError: there is not one edit per request, or `before` lacks an answer.
    """
    check_loaded(model)
    if edits is not None and len(edits) != len(requests):
        raise MetricError(f"edits: expected one per request, {len(requests)}, got {len(edits)}")
    ask = partial(_ask, model, batch_tokens=batch_tokens, show_progress=show_progress)
    case_metrics = {n: m for n, m in metrics.items() if isinstance(m, CaseMetric)}
    checked = easyedit_requests(requests)
    queries = [{n: list(m.questions(r)) for n, m in case_metrics.items()} for r in checked]
    distinct = dict.fromkeys(q for case in queries for own in case.values() for q in own)
    unedited = before is None and edits is None
    if before is None:
        before = dict(zip(distinct, ask(list(distinct), {}, None), strict=True))
    else:
        _check_before(before, distinct)
    edits = [None] * len(requests) if edits is None else edits
    edit_of = {
        (query, id(edit)): edit
        for case, edit in zip(queries, edits, strict=True)
        for own in case.values()
        for query in own
    }
    if unedited:
        after = {key: before[key[0]] for key in edit_of}
    else:
        answers = ask([query for query, _ in edit_of], before, list(edit_of.values()))
        after = dict(zip(edit_of, answers, strict=True))
    cases = []
    for request, case, edit in zip(checked, queries, edits, strict=True):
        old = {name: [before[query] for query in own] for name, own in case.items()}
        new = {name: [after[query, id(edit)] for query in own] for name, own in case.items()}
        cases.append(_measure(request, metrics, old, new))
    return cases, before


def _measure(
    request: EditRequest,
    metrics: Mapping[str, CaseMetric | SummaryMetric],
    before: Mapping[str, Sequence[Answer]],
    after: Mapping[str, Sequence[Answer]],
) -> Values:
    """One request's values: of the metrics that asked questions, then of those that combine."""
    values: Values = {}
    headline: Values = {}
    for name, metric in metrics.items():
        if isinstance(metric, CaseMetric):
            measured = metric.measure(request, before[name], after[name])
            values |= measured
            headline |= {key: measured[key] for key in metric.headline}
    for metric in metrics.values():
        if isinstance(metric, SummaryMetric):
            values |= metric.combine(headline)
    return values


def averages(
    cases: Sequence[Values], metrics: Mapping[str, CaseMetric | SummaryMetric] | None = None
) -> dict[str, Average]:
    """Mean and spread of every value over the requests that have it, if any do.

    With `metrics`, their values of all requests together as well.
    """
    columns: dict[str, list[float]] = {}
    for name, value in (item for case in cases for item in case.items()):
        columns.setdefault(name, [])
        if value is not None:
            columns[name].append(value)
    means = {name: _average(values) for name, values in columns.items() if values}
    for metric in (metrics or {}).values():
        if isinstance(metric, AggregateMetric):
            means |= metric.aggregate(means)
    return means


def _average(values: Sequence[float]) -> Average:
    numbers = np.array(values, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # a file may hold 1e300
        sd = numbers.std(ddof=min(1, len(values) - 1))
        return Average(float(numbers.mean()), float(sd), len(values))


def _check_before(before: Before, queries: Collection[Query]) -> None:
    missing = [query for query in queries if query not in before]
    if missing:
        raise MetricError(
            f"before: expected answers to all {len(queries)} questions of these requests and "
            f"metrics, {len(missing)} are missing, such as {missing[0]!r}. Measure the unedited "
            "model with the same requests and metrics first."
        )


def _ask(
    model: EditableModel,
    queries: Sequence[Query],
    before: Before,
    edits: Sequence[WeightEdit | None] | None,
    **options: Any,
) -> list[Answer]:
    """Answers in the order of `queries`; rows that `before` has are not tokenised again."""
    answers: dict[int, Answer] = {}
    for kind, run in ((Question, score), (Continuation, generate)):
        indices = [i for i, query in enumerate(queries) if isinstance(query, kind)]
        items = [_tokenised(queries[i], before) for i in indices]
        own = None if edits is None else [edits[i] for i in indices]
        answers |= zip(indices, run(model, cast(Any, items), own, **options), strict=True)
    return [answers[i] for i in range(len(queries))]


def _tokenised(query: Query, before: Before) -> Any:
    answer = before.get(query)
    return answer.row if isinstance(answer, ScoredAnswer) else query
