"""Metrics: each member says what an edit did, in a few numbers per request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lga_fast import registry
from lga_fast.errors import UnknownName
from lga_fast.metrics._cases import (
    Average,
    Before,
    CaseMetric,
    SummaryMetric,
    Values,
    averages,
    measure_cases,
)
from lga_fast.metrics._generation import Continuation, Continued, generate
from lga_fast.metrics._scoring import Answered, Question, score

__all__ = [
    "Answered",
    "Average",
    "Before",
    "CaseMetric",
    "Continuation",
    "Continued",
    "Question",
    "SummaryMetric",
    "Values",
    "averages",
    "choose",
    "generate",
    "measure_cases",
    "score",
]


def choose(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, CaseMetric | SummaryMetric]:
    """Members by name, made with their options.

    Args:
        names: of members of `lga_fast.metrics`.
        options: by name, the fields of that member's `Metric`.

    Raises:
        UnknownName: no such metric, it has no such option, or options are for one not chosen.
        MetricError: a metric needs a package that is not installed, or has an option that no
            number can be measured with.

    Example:
        >>> metrics = choose(["rewrite", "locality", "overall"])
        >>> cases, before = measure_cases(model, requests, edits, metrics)
        >>> cases[0]["locality"]
        0.8
    """
    options = options or {}
    if strange := set(options) - set(names):
        raise UnknownName(
            f"options for {', '.join(sorted(strange))}: expected chosen metrics, which are "
            f"{', '.join(names) or 'none'}"
        )
    return {
        name: registry.configured(__name__, name, "Metric", dict(options.get(name, {})))
        for name in names
    }
