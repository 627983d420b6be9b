"""Brute force: edit every fact at every layer, and take the layer that does best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from lga_fast import metrics
from lga_fast.datasets import easyedit_requests
from lga_fast.errors import OptionError, ScoringError
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors._editing_options import EditingOptions
from lga_fast.selectors._measured_facts import Choice, MeasuredFacts
from lga_fast.selectors._selector import Cost, LayerSelector, Resampling, excluded, with_notes
from lga_fast.sweep import statistics
from lga_fast.sweep.layer_edits import check_layers
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.run import sweep


@dataclass(frozen=True)
class Selector(EditingOptions, Resampling, LayerSelector):
    """The largest mean of a metric over the facts; ties by rephrase, then by locality."""

    metric: str = option("rewrite", "Metric whose mean over the facts is compared.")
    layers: tuple[int, ...] = option((), "Layers to try; default: all.", min=0)

    cost: ClassVar[Cost] = "sweep"
    timed_in_paper: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse a metric that nothing measures as well."""
        super().__post_init__()
        (metric,) = metrics.choose([self._metric_name]).values()
        group = "/" in self.metric and isinstance(metric, metrics.GroupedMetric)
        if not group and self.metric not in metric.headline:
            raise OptionError(
                f"brute_force: metric: expected {' or '.join(metric.headline)}, got {self.metric!r}"
            )

    @property
    def _metric_name(self) -> str:
        """The member of `lga_fast.metrics` that gives the value, which may be of a group."""
        return self.metric.partition("/")[0]

    @property
    def _measured(self) -> tuple[str, ...]:
        """What a sweep is to measure: ties are broken by more than `metric`."""
        return tuple(dict.fromkeys((*statistics.SCORE, self._metric_name)))

    def check(self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]) -> None:
        """Refuse layers that cannot be edited, and a metric that no request has.

        Raises:
            ScoringError: there is no such layer, or no request has the metric.
            EditError: the weight to edit is not plain numbers.
        """
        check_layers(model, self.layers or model.mlp_layers)
        usable = [r for r in easyedit_requests(requests) if r.subject_span is not None]
        names = metrics.measurable(metrics.choose(self._measured), usable)
        if usable and self.metric not in names:  # without any, the sweep says so
            raise ScoringError(
                f"brute_force: metric: no request has a value {self.metric!r}; they have: "
                f"{', '.join(names)}"
            )

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Edit every request at every layer (`lga_fast.studies.sweep`) and compare the means.

        Layers of equal means keep their order. Layers that were not tried have the score 0 and are
        excluded. Requests without a subject in their prompt are dropped.

        Raises:
            ScoringError: no request can be edited or has the metric, or there is no such layer.
            EditError: an edit cannot be made.
        """
        self.check(model, requests)
        swept = sweep(
            model,
            requests,
            self.editor,
            self.layers or None,
            self._measured,
            preset=self.preset,
            config=self.config,
        )
        return self.aggregate(swept, model.layers)

    def aggregate(self, swept: Sweep, layers: int) -> LayerRanking:
        """The ranking that a sweep gives; errors as of `rank`.

        Args:
            swept: over the facts; it has the metric.
            layers: of the model, of which not all need be in the sweep.
        """
        names = dict.fromkeys((self.metric, *statistics.SCORE))
        first = swept.values(self.metric)
        present = [name for name in names if name in swept.acc]
        columns = [swept.acc[name] for name in present]
        tried, means = np.array(swept.layers), [statistics.mean(values) for values in columns]
        places = statistics.order(means)
        order = tried[places].tolist()
        decisive = [n for n, m in zip(present, means, strict=True) if np.ptp(m[places[:2]]) > 0]
        tie_break = (
            f"the one of better {decisive[0]} is taken" if decisive else "the lowest is taken"
        )
        scores, shares = np.zeros(layers), np.zeros(0)
        scores[tried] = statistics.mean(first)
        if self.bootstrap:
            counts = statistics.resamples(len(swept.case_ids), self.bootstrap, self.seed)
            drawn = statistics.order([statistics.means(values, counts) for values in columns])[:, 0]
            shares = np.bincount(tried[drawn], minlength=layers) / self.bootstrap
        runs = swept.provenance["runs"]
        ranking = LayerRanking(
            layer=order[0],
            selector=self.name,
            scores=tuple(scores.tolist()),
            order=tuple(order),
            score_label=f"mean {self.metric} after an edit by {self.editor}",
            excluded=excluded(layers, order),
            stability=tuple(shares.tolist()),
            requests=len(swept.case_ids),
            known=int((swept.before["rewrite"] == 1).sum()),
            dropped=swept.dropped,
            provenance=swept.provenance
            | {
                "options": asdict(self) | {"layers": list(swept.layers)},
                "sequence_forwards": sum(run["forwards"] for run in runs),
                "seconds_scoring": swept.seconds(),
                "peak_bytes": max(run["peak_bytes"] for run in runs),
            },
        )
        return with_notes(ranking, [], tie_break)

    def choose(self, facts: MeasuredFacts) -> Choice:
        """What the sweep that is already there chooses."""
        return Choice.of(self.aggregate(facts.sweep, facts.model.layers))
