"""Metrics: each member measures requests before and after an edit; the folder is the registry.

_cases.py      the protocols, and `measure_cases`, which asks the questions of all metrics at once
_scoring.py    questions with a given answer: teacher forcing; _generation.py: free continuations
_probes.py     a request's probes and the means over them; _texts.py: similarity of two texts
_packages.py   refuses a metric whose packages are not installed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lga_fast import registry
from lga_fast.errors import UnknownName
from lga_fast.metrics._cases import (
    AggregateMetric,
    Average,
    Before,
    CaseMetric,
    GroupedMetric,
    SummaryMetric,
    Values,
    averages,
    measurable,
    measure_cases,
)
from lga_fast.metrics._generation import Continuation, GeneratedText, generate
from lga_fast.metrics._scoring import Question, ScoredAnswer, score

__all__ = [
    "AggregateMetric",
    "Average",
    "Before",
    "CaseMetric",
    "Continuation",
    "GeneratedText",
    "GroupedMetric",
    "Question",
    "ScoredAnswer",
    "SummaryMetric",
    "Values",
    "averages",
    "choose",
    "generate",
    "measurable",
    "measure_cases",
    "score",
]


def choose(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, CaseMetric | SummaryMetric]:
    """Members by name, configured with their options.

    Args:
        names: of members of `lga_fast.metrics`.
        options: by name, the fields of that member's `Metric`.

    Raises:
        UnknownName: no such metric, it has no such option, or options are for one not chosen.
        MetricError: a metric needs a package or file that is missing, or an option is out of its
            limits.

    Example:
        >>> metrics = choose(["rewrite", "locality", "overall"])
        >>> cases, before = measure_cases(model, requests, edits, metrics)
        >>> cases[0]["locality"]
        0.8
    """
    options = options or {}
    if others := set(options) - set(names):
        raise UnknownName(
            f"options for {', '.join(sorted(others))}: expected chosen metrics, which are "
            f"{', '.join(names) or 'none'}"
        )
    metrics = {
        name: registry.configured(__name__, name, "Metric", dict(options.get(name, {})))
        for name in names
    }
    headline = [key for m in metrics.values() if isinstance(m, CaseMetric) for key in m.headline]
    for metric in metrics.values():
        if isinstance(metric, SummaryMetric):
            metric.combine(dict.fromkeys(headline))  # refuses unfit options before the work
    return metrics
