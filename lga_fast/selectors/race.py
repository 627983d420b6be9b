"""Race: cheap edits of a few facts at every layer; the better half goes on to further facts."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from lga_fast import distributed, progress, provenance
from lga_fast.datasets import easyedit_requests, with_subject
from lga_fast.errors import named_layers
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors._editing_options import EditingOptions
from lga_fast.selectors._fact_edits import FactEdits
from lga_fast.selectors._selector import (
    TO_CHECK_LEAST,
    TO_CHECK_SHARE,
    Cost,
    LayerSelector,
    Seeded,
    excluded,
    with_notes,
)
from lga_fast.sweep import layer_curve
from lga_fast.sweep.layer_curve import LayerCurve
from lga_fast.sweep.layer_edits import LayerEdits, check_layers
from lga_fast.sweep.successive_halving import METRICS, Measure, Round, halve, score

TOLERANCE = 0.05  # in a score that ends at 1: by how much more a layer is noticeably better
ENOUGH, CERTAIN = 0.02, 0.99  # the race ends where none is better by more, with this probability


@dataclass(frozen=True)
class Selector(Seeded, EditingOptions, LayerSelector):
    """The layer where cheap edits serve best, of all that later tokens read.

    Values are optimised on the bare prompt alone (`bare_value`), which makes edits several times
    cheaper than the editor's own, so that more facts can be seen; keys are its own, because how far
    the bare one is from their mean decides what an edit does. Each round edits further facts, in an
    order drawn at random, and drops the worse half of the layers. What decides is a curve over
    depth that is fitted to all edits, the dropped layers' included; the race ends early where that
    leaves no doubt. It needs neither old answers nor paraphrases nor locality probes, but uses
    those there are.
    """

    share: float = option(
        TO_CHECK_SHARE,
        f"Largest part of brute force's cost, or {TO_CHECK_LEAST} edits a layer.",
        above=0,
    )

    cost: ClassVar[Cost] = "edits"

    def check(self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]) -> None:
        """Refuse a model whose layers cannot be edited."""
        check_layers(model, model.mlp_layers)

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Edit some of the requests, and rank by what the edits did.

        Raises:
            ScoringError: no request has its subject in its prompt.
            EditError: an edit cannot be made.
        """
        loaded = easyedit_requests(requests)
        usable, dropped = with_subject(loaded, self.name)
        drawn = np.random.default_rng(self.seed).permutation(len(usable))
        facts = [usable[place] for place in drawn]
        reaching = [n for n in model.mlp_layers if n <= model.last_reaching_layer]
        layers = reaching or model.mlp_layers
        edits = LayerEdits(
            model, self.editor, METRICS, layers, preset=self.preset, config=self.config
        )
        started = time.perf_counter()
        cheaper = edits.cheapen()
        brute_force = len(model.mlp_layers) * len(facts)
        budget = self.budget(len(layers), len(facts), cheaper)
        ranks = distributed.current()
        most = min(budget, len(layers) * len(facts))
        with progress.bar("racing layers", most, None) as advance:
            before = edits.before(facts)
            raced = FactEdits(edits, facts, advance)
            curve, rounds = self.compare(layers, len(facts), budget, raced.measure)
        places = np.argsort(-curve.mean.round(12), kind="stable")
        order = [layers[place] for place in places]
        scores = np.zeros(model.layers)
        scores[layers] = curve.mean
        ranking = LayerRanking(
            layer=order[0],
            selector=self.name,
            scores=tuple(scores.tolist()),
            order=tuple(order),
            excluded=excluded(model.layers, order),
            score_label=f"how well edits by {self.editor} serve, of 1: half rewrite accuracy, half "
            "probabilities of rewrite, rephrase and locality",
            confidence=curve.probability_within(int(places[0]), TOLERANCE, self.seed),
            requests=len(facts),
            known=sum(case["rewrite"] == 1 for case in before),
            dropped=dropped,
            provenance=provenance.of(model)
            | ranks.provenance()
            | edits.about
            | {
                "options": asdict(self),
                "data": asdict(loaded.provenance),
                "budget": budget,
                "rounds": json.loads(json.dumps([asdict(one) for one in rounds])),
                "edits": raced.count,
                "edits_brute_force": brute_force,
                "cheaper": cheaper,
                "editor_notes": raced.notes,
                "sequence_forwards": raced.forwards,
                "seconds_scoring": max(ranks.gather(time.perf_counter() - started)),
                "peak_bytes": max(ranks.gather(provenance.peak_bytes(model.device))),
            },
        )
        left_out = sorted(set(model.mlp_layers) - set(layers))
        return with_notes(ranking, [*_not_raced(left_out), self._note(ranking, rounds[-1])])

    def budget(self, layers: int, facts: int, cheaper: float) -> int:
        """How many edits may be made, each `cheaper` times cheaper than brute force's.

        Some for each layer are always allowed: few facts do, and an editor whose cheap edits are
        hardly cheaper gets more than its share.
        """
        return max(int(self.share * layers * facts * cheaper), TO_CHECK_LEAST * layers)

    def compare(
        self, layers: Sequence[int], facts: int, budget: int, measure: Measure
    ) -> tuple[LayerCurve, list[Round]]:
        """Make the edits, and fit the curve to all they did; see `halve`.

        It ends early where the best layer is as good as certain, unless a layer has seen one fact
        only, which says nothing of how facts differ.
        """
        rounds, curve = list[Round](), None
        for one, values in halve(layers, facts, budget, measure):
            rounds.append(one)
            curve = layer_curve.fit({n: score(v) for n, v in values.items()}, layers)
            if min(column.shape[1] for column in values.values()) < 2:
                continue
            best = int(np.argmax(curve.mean))
            if curve.probability_within(best, ENOUGH, self.seed) >= CERTAIN:
                break
        assert curve is not None  # one round is always run
        return curve, rounds

    @staticmethod
    def _note(ranking: LayerRanking, last: Round) -> str:
        about = ranking.provenance
        made, brute = about["edits"], about["edits_brute_force"]
        return (
            f"{made} cheap edits at {len(ranking.order)} layers, the last {len(last.layers)} on "
            f"{last.facts} facts, cost about {made / about['cheaper'] / brute:.1%} of brute "
            f"force's {brute:,}."
        )


def _not_raced(layers: Sequence[int]) -> list[str]:
    """A note on layers whose edits do nothing, and so no harm: they win where no edit works."""
    if not layers:
        return []
    return [f"Not raced: {named_layers(layers)}, where an edit reaches no later token."]
