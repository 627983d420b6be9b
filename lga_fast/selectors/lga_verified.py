"""LGA, checked: its best layers are edited for a few facts, and what the edits do decides."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast import progress, provenance
from lga_fast.datasets import easyedit_requests
from lga_fast.editors import Preset
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, LayerRanking, Scope
from lga_fast.selectors import _notes, lga
from lga_fast.studies import _reduce
from lga_fast.studies._layer_edits import Done, LayerEdits, columns

# What edits of facts [start, stop) at a layer do; a row for each value of `_reduce.SCORE`.
Measure = Callable[[int, range], Float[np.ndarray, "metric fact"]]


@dataclass(frozen=True)
class Round:
    """Layers that were compared, best first, and their means over the facts so far."""

    facts: int
    layers: tuple[int, ...]
    means: Float[np.ndarray, "metric layer"]

    def account(self) -> dict[str, Any]:
        """Plain data; None where no fact has a value."""
        named = zip(_reduce.SCORE, self.means.tolist(), strict=True)
        plain = {name: [None if math.isnan(x) else x for x in row] for name, row in named}
        return {"facts": self.facts, "layers": list(self.layers), **plain}


@dataclass(frozen=True)
class Selector:
    """The layer that edits best, of LGA's best and of those that its fences only just excluded.

    Candidates are LGA's best `k` layers and the excluded ones whose score lies within `margin`
    times κ·iqr beyond their fence, but never the last layer of several: an edit there cannot act.
    They are compared by rewrite accuracy, ties by rephrase, then locality, then LGA's order, in
    rounds of sequential halving (Karnin et al., ICML 2013): each edits further facts at the layers
    that are left, and drops the worse half of them.
    """

    k: int = field(default=5, metadata={"help": "LGA's best layers that are checked."})
    margin: float = field(
        default=0.5,
        metadata={"help": "How far beyond a fence a layer is checked too, in units of κ·iqr."},
    )
    facts: int = field(default=10, metadata={"help": "Facts that a layer is checked on at most."})
    share: float = field(
        default=0.08, metadata={"help": "Edits at most, as a share of those of brute force."}
    )
    editor: str = field(default="r_rome", metadata={"help": "Editor that is tried."})
    preset: Preset = field(
        default="easyedit", metadata={"help": "Whose numbers hold where nothing else says any."}
    )
    config: str | None = field(
        default=None, metadata={"help": "YAML or JSON file of the editor's options."}
    )
    tukey: float | None = field(
        default=None,
        metadata={"help": "Fence constant; default 1.0, or 0.5 for composite, unstructured data."},
    )
    scope: Scope = field(default="mlp_all", metadata={"help": "Parameters that are added up."})

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Rank by LGA on all requests, then check on the first of them.

        A score is the rewrite accuracy over the facts that a layer was checked on, fewer for layers
        that dropped out early; layers that were not checked have 0 and are excluded.

        Raises:
            ScoringError: as of lga; or no request has its subject in its prompt.
            EditError: an edit cannot be made.
        """
        given = easyedit_requests(requests)
        usable = [request for request in given if request.subject_span is not None]
        if not usable:
            raise ScoringError(
                f"lga_verified: none of {len(given)} requests has its subject in its prompt"
            )
        ranked = lga.Selector(tukey=self.tukey, scope=self.scope).rank(model, given)
        layers = candidates(ranked, self.k, self.margin)
        budget = int(self.share * model.layers * len(given))
        facts = usable[: self.facts]
        started = time.perf_counter()
        edits = LayerEdits(
            model, self.editor, _reduce.SCORE, preset=self.preset, config=self.config
        )
        edited: list[Done] = []

        def measure(layer: int, at: range) -> Float[np.ndarray, "metric fact"]:
            edited.append(edits.at(layer, facts[at.start : at.stop]))
            advance(len(at))
            found = columns(edited[-1].values)
            return np.array([found.get(n, np.full(len(at), np.nan)) for n in _reduce.SCORE])

        with progress.bar("checking layers", budget, None) as advance:
            edits.before(facts)
            order, rounds = halve(layers, len(facts), budget, measure)
        scores = np.zeros(model.layers)
        for one in rounds:
            scores[list(one.layers)] = one.means[0]
        forwards = sum(done.forwards for done in edited)
        made = {
            "options": asdict(self),
            "lga": asdict(ranked),
            "candidates": layers,
            "rounds": [one.account() for one in rounds],
            "edits": sum(len(done.values) for done in edited),
            "edits_brute_force": model.layers * len(given),
            "editor_notes": sorted({note for done in edited for note in done.notes}),
            "sequence_forwards": ranked.provenance["sequence_forwards"] + forwards,
            "seconds_checking": time.perf_counter() - started,
            "peak_bytes": provenance.peak_bytes(model.device),
        }
        ranking = LayerRanking(
            layer=order[0],
            selector="lga_verified",
            scores=tuple(scores.tolist()),
            order=tuple(order),
            score_label=f"rewrite accuracy after an edit by {self.editor}; 0: not checked",
            excluded=tuple(sorted(set(range(model.layers)) - set(order))),
            argmax_by_scope=ranked.argmax_by_scope,
            requests=len(given),
            known=ranked.known,
            dropped=ranked.dropped,
            provenance=ranked.provenance | edits.about | json.loads(json.dumps(made)),
        )
        return _notes.with_notes(ranking, self._notes(ranked, rounds, made))

    def _notes(
        self, ranked: LayerRanking, rounds: Sequence[Round], made: dict[str, Any]
    ) -> list[str]:
        if not rounds:
            return [
                f"Nothing was checked: {made['edits_brute_force']} edits of brute force allow no "
                f"two at share={self.share}. The choice is that of LGA, the last layer apart."
            ]
        end = rounds[-1]
        note = (
            f"LGA chooses layer {ranked.layer}. {made['edits']} edits checked layers "
            f"{', '.join(map(str, made['candidates']))}: the last {len(end.layers)} on "
            f"{end.facts} facts; brute force would make {made['edits_brute_force']}."
        )
        return [note]


def candidates(ranking: LayerRanking, k: int, margin: float) -> list[int]:
    """Layers to check: the best `k`, then those just beyond a fence, best first."""
    last = len(ranking.scores) - 1
    near: list[int] = []
    if ranking.fences is not None:
        low, high = ranking.fences
        constant = ranking.provenance["options"]["tukey"]
        width = margin * constant * (high - low) / (1 + 2 * constant)  # high - low: (1 + 2κ)·iqr
        near = [i for i in ranking.excluded if low - width <= ranking.scores[i] <= high + width]
    kept = [layer for layer in ranking.order if layer != last][:k]
    near = sorted((i for i in near if i != last), key=lambda i: -ranking.scores[i])
    return kept + near or [last]


def halve(
    candidates: Sequence[int], facts: int, budget: int, measure: Measure
) -> tuple[list[int], list[Round]]:
    """Compare layers in rounds, each on more facts and with half of the layers.

    Args:
        candidates: first is best, where the measured values leave a tie.
        facts: that there are.
        budget: edits, of one fact at one layer each; layers that it cannot serve are not compared.
        measure: makes the edits.

    Returns:
        The compared layers, best first, and the rounds. Without any round the first candidate.
    """
    left, out = list(candidates[: max(1, budget)]), list[int]()
    values = {layer: np.empty((len(_reduce.SCORE), 0)) for layer in left}
    rounds: list[Round] = []
    seen = 0
    while len(left) > 1 and seen < facts and budget >= len(left):
        share = budget // (len(left) * math.ceil(math.log2(len(left))))
        more = range(seen, min(facts, seen + max(1, share)))
        for layer in left:
            values[layer] = np.concatenate([values[layer], measure(layer, more)], 1)
        seen, budget = more.stop, budget - len(left) * len(more)
        means = np.array([_reduce.mean(values[layer].T) for layer in left]).T
        best = _reduce.order(list(means))
        left = [left[place] for place in best]
        rounds.append(Round(seen, tuple(left), means[:, best]))
        half = math.ceil(len(left) / 2)
        left, out = left[:half], left[half:] + out
    return (left + out if rounds else left[:1]), rounds
