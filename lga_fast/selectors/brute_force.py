"""Brute force: edit every fact at every layer, and take the layer that does best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lga_fast.editors import Preset
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors import _notes
from lga_fast.studies import Sweep, sweep
from lga_fast.sweep import statistics


@dataclass(frozen=True)
class Selector:
    """The largest mean of a metric over the facts; of equal ones by rephrase, then by locality."""

    editor: str = field(default="r_rome", metadata={"help": "Editor that is tried."})
    metric: str = field(default="rewrite", metadata={"help": "Value whose mean counts."})
    layers: tuple[int, ...] = field(
        default=(), metadata={"help": "Layers that are tried; default: all."}
    )
    preset: Preset = field(
        default="easyedit", metadata={"help": "Whose numbers hold where nothing else says any."}
    )
    config: str | None = field(
        default=None, metadata={"help": "YAML or JSON file of the editor's options."}
    )
    bootstrap: int = field(
        default=200, metadata={"help": "Resamples of the facts that measure stability."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of all that is random."})

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Edit every request at every layer (`lga_fast.studies.sweep`) and compare the means.

        The order of equal layers is that of their numbers. Layers that were not tried have the
        score 0 and are excluded. Requests without a subject in their prompt are dropped.

        Raises:
            ScoringError: no request can be edited or has the metric, or there is no such layer.
            EditError: an edit cannot be made.
        """
        metrics = tuple(dict.fromkeys((*statistics.SCORE, self.metric.partition("/")[0])))
        found = sweep(
            model,
            requests,
            self.editor,
            self.layers or None,
            metrics,
            preset=self.preset,
            config=self.config,
        )
        return self.aggregate(found, model.layers)

    def aggregate(self, found: Sweep, layers: int) -> LayerRanking:
        """The choice from a sweep that is there already; errors as of `rank`.

        Args:
            found: over the facts; it has the metric.
            layers: of the model, of which not all need be in the sweep.
        """
        names = dict.fromkeys((self.metric, *statistics.SCORE))
        first = found.values(self.metric)
        columns = [found.acc[name] for name in names if name in found.acc]
        tried = np.array(found.layers)
        order = tried[statistics.order([statistics.mean(values) for values in columns])].tolist()
        scores, shares = np.zeros(layers), np.zeros(0)
        scores[tried] = statistics.mean(first)
        if self.bootstrap:
            counts = statistics.resamples(len(found.case_ids), self.bootstrap, self.seed)
            drawn = statistics.order([statistics.means(values, counts) for values in columns])[:, 0]
            shares = np.bincount(tried[drawn], minlength=layers) / self.bootstrap
        ranking = LayerRanking(
            layer=order[0],
            selector="brute_force",
            scores=tuple(scores.tolist()),
            order=tuple(order),
            score_label=f"mean {self.metric} after an edit by {self.editor}",
            excluded=tuple(sorted(set(range(layers)) - set(order))),
            stability=tuple(shares.tolist()),
            requests=len(found.case_ids),
            known=int((found.before["rewrite"] == 1).sum()),
            dropped=found.dropped,
            provenance=found.provenance
            | {
                "options": asdict(self) | {"layers": list(found.layers)},
                "sequence_forwards": sum(run["forwards"] for run in found.provenance["runs"]),
                "seconds_scoring": found.seconds(),
                "peak_bytes": max(run["peak_bytes"] for run in found.provenance["runs"]),
            },
        )
        return _notes.with_notes(ranking, [])
