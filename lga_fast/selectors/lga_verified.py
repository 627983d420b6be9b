"""LGA, checked: its best layers are edited for a few facts, and what the edits do decides."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from lga_fast import distributed, progress, provenance
from lga_fast.datasets import easyedit_requests
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.scoring.options import ScoringOptions
from lga_fast.selectors import lga
from lga_fast.selectors._editing_options import EditingOptions
from lga_fast.selectors._fact_edits import FactEdits
from lga_fast.selectors._measured_facts import Choice, MeasuredFacts
from lga_fast.selectors._selector import Cost, FenceOptions, LayerSelector, with_notes
from lga_fast.sweep import statistics
from lga_fast.sweep.layer_edits import LayerEdits, check_layers
from lga_fast.sweep.successive_halving import Round, halve


@dataclass(frozen=True)
class Selector(FenceOptions, EditingOptions, LayerSelector):
    """The layer that edits best, of LGA's best and of those that its fences excluded.

    The fences guard a choice made without edits; where edits decide, excluded layers are candidates
    too. The last of several layers never is: an edit there has no effect. Edits are solved for the
    bare prompt alone, which makes them several times cheaper, so that more facts can be seen. A
    layer ties with the one of best rewrite accuracy where the mean difference on the same facts is
    within its standard error; ties are broken by the mean of rewrite, rephrase and locality, then
    by LGA's order. Layers are compared in rounds of sequential halving (Karnin et al., ICML 2013):
    each round edits further facts at the remaining layers and drops the worse half of them.
    """

    # Why so: mean regret in rewrite accuracy on the atlas models (GPT-2, Llama), 36 facts of which
    # 30 were drawn 200 times. This: 0.002 and 0.008; LGA itself: 0.013 and 0.050. With only layers
    # just outside the fences (margin 0.5): 0.003 and 0.059, since layer 0, nine units outside,
    # edits Llama best. Without ties: 0.004 and 0.016. With the editor's contexts, for the same
    # cost: 0.018 and 0.045.
    k: int = option(5, "Number of LGA's best layers to check.", min=1)
    margin: float | None = option(
        None,
        "How far outside the fences a layer is still checked, in units of κ·iqr; default: any "
        "distance.",
        min=0,
    )
    facts: int = option(20, "Largest number of facts a layer is checked on.", min=1)
    share: float = option(0.065, "Largest cost of the edits, as a share of brute force's.", above=0)

    cost: ClassVar[Cost] = "edits"

    def check(self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]) -> None:
        """Refuse a model whose layers cannot be edited."""
        check_layers(model, range(model.layers))

    def pass_options(self) -> ScoringOptions:
        """Those of LGA."""
        return self._lga().pass_options()

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
        loaded = easyedit_requests(requests)
        usable = [request for request in loaded if request.subject_span is not None]
        if not usable:
            raise ScoringError(
                f"lga_verified: none of {len(loaded)} requests has its subject in its prompt"
            )
        edits = LayerEdits(  # first of all, because it refuses what cannot be edited
            model,
            self.editor,
            statistics.SCORE,
            range(model.layers),
            preset=self.preset,
            config=self.config,
        )
        ranker = self._lga()
        ranked = ranker.rank(model, loaded)
        layers = candidates(ranked, self.k, self.margin)
        facts = usable[: self.facts]
        started = time.perf_counter()
        cheaper = edits.drop_contexts(layers[0])
        budget = int(self.share * model.layers * len(loaded) * cheaper)
        ranks = distributed.current()
        with progress.bar("checking layers", budget, None) as advance:
            edits.before(facts)
            checks = FactEdits(edits, facts, advance)
            order, rounds = halve(layers, len(facts), budget, checks.measure)
        checked = {
            "options": asdict(self),
            ranker.name: asdict(ranked),
            "candidates": layers,
            "budget": budget,
            "rounds": [one.to_dict() for one in rounds],
            "edits": checks.count,
            "edits_brute_force": model.layers * len(loaded),
            "editor_notes": checks.notes,
            "sequence_forwards": ranked.provenance["sequence_forwards"] + checks.forwards,
            "seconds_checking": max(ranks.gather(time.perf_counter() - started)),
            "peak_bytes": max(ranks.gather(provenance.peak_bytes(model.device))),
        }
        return self._ranking(ranked, order, rounds, edits.about | json.loads(json.dumps(checked)))

    def choose(self, facts: MeasuredFacts) -> Choice:
        """The choice, and how often resamples of the facts choose each layer."""
        ranking = self.rank(facts.model, facts.requests)
        shares = None
        if facts.resamples:
            shares = self._stability(facts, ranking.provenance["budget"])
        return replace(Choice.of(ranking), shares=shares)

    def _lga(self) -> lga.Selector:
        return lga.Selector(tukey=self.tukey, scope=self.scope)

    def _ranking(
        self,
        ranked: LayerRanking,
        order: Sequence[int],
        rounds: Sequence[Round],
        checked: dict[str, Any],
    ) -> LayerRanking:
        layers = len(ranked.scores)
        scores = np.zeros(layers)
        for one in rounds:
            scores[list(one.layers)] = one.means[0]
        ranking = replace(
            ranked,
            layer=order[0],
            selector=self.name,
            scores=tuple(scores.tolist()),
            order=tuple(order),
            score_label=f"rewrite accuracy after an edit by {self.editor}; 0: not checked",
            excluded=tuple(sorted(set(range(layers)) - set(order))),
            fences=None,
            raw_argmax=None,
            stability=(),
            positive_share=(),
            notes=(),
            provenance=ranked.provenance | checked,
        )
        if rounds:
            last = rounds[-1]
            note = (
                f"LGA chooses layer {ranked.layer}. {checked['edits']} edits checked layers "
                f"{', '.join(map(str, checked['candidates']))}: the last {len(last.layers)} on "
                f"{last.facts} facts; brute force would make {checked['edits_brute_force']}."
            )
        else:
            note = (
                f"Nothing was checked: share={self.share} of brute force's cost, "
                f"{checked['edits_brute_force']} edits, allows no two layers. The choice is LGA's "
                "best, the last layer apart."
            )
        return with_notes(ranking, [note])

    def _stability(self, facts: MeasuredFacts, budget: int) -> Float[np.ndarray, " layer"]:
        """Share of resamples that choose each layer, with edits read from a sweep."""
        scores, swept = facts.scores, facts.sweep_without_contexts
        missing = np.full_like(swept.acc["rewrite"], np.nan)
        table = np.stack([swept.acc.get(name, missing) for name in statistics.SCORE])
        place = {case_id: i for i, case_id in enumerate(swept.case_ids)}
        rows = np.array([place[case_id] for case_id in scores.case_ids])
        random = np.random.default_rng(facts.seed)
        ranker = replace(self._lga(), bootstrap=0)
        shares = np.zeros(facts.model.layers)
        for _ in range(facts.resamples):
            drawn = random.integers(len(rows), size=len(rows))
            ranked = ranker.aggregate(scores.take(drawn.tolist()))
            seen = rows[drawn][: self.facts]
            order, _ = halve(
                candidates(ranked, self.k, self.margin),
                len(seen),
                budget,
                lambda layers, at, seen=seen: {
                    layer: table[:, seen[at.start : at.stop], layer] for layer in layers
                },
            )
            shares[order[0]] += 1 / facts.resamples
        return shares


def candidates(ranking: LayerRanking, k: int, margin: float | None) -> list[int]:
    """Layers to check: the best `k`, then excluded ones up to `margin` outside, nearest first.

    Args:
        ranking: with its fences.
        k: largest number of layers within the fences.
        margin: in units of κ·iqr; None: without limit.
    """
    last = len(ranking.scores) - 1
    best = [layer for layer in ranking.order if layer != last][:k]
    near: list[int] = []
    if ranking.fences is not None:
        low, high = ranking.fences
        constant = ranking.provenance["options"]["tukey"]
        unit = constant * (high - low) / (1 + 2 * constant)  # high - low: (1 + 2κ)·iqr
        outside = {
            i: max(low - ranking.scores[i], ranking.scores[i] - high) for i in ranking.excluded
        }
        limit = math.inf if margin is None else margin * unit
        near = sorted(i for i, far in outside.items() if far <= limit and i != last)
        near.sort(key=outside.__getitem__)
    return best + near or [last]
