"""One scoring pass by several ranks: who scores which requests, and all scores put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lga_fast import distributed
from lga_fast.datasets import LoadedEdits, jsonl
from lga_fast.errors import NothingToScore
from lga_fast.layer_scores import LayerScores
from lga_fast.models import EditableModel
from lga_fast.records import Dropped
from lga_fast.scoring.options import ScoringOptions
from lga_fast.tokens import target_row

# Scores of some requests, and the places among these of those that were not dropped.
Score = Callable[[LoadedEdits], tuple[LayerScores, list[int]]]


@dataclass(frozen=True)
class Part:
    """The scores of one rank's share."""

    scores: LayerScores | None  # None: nothing of its share was left to score
    scored: list[int]  # places among all requests, in the order of `scores`
    dropped: dict[int, Dropped]  # by place


def over_ranks(
    model: EditableModel, requests: LoadedEdits, options: ScoringOptions, score: Score
) -> LayerScores:
    """Scores of all requests, of which each rank scores its share; the same on every rank.

    Raises:
        ScoringError: as of `score_layers`.
        RanksError: the ranks differ in model, requests or options, or one of them has ended.
    """
    ranks = distributed.current()
    ranks.assert_same(
        model=model.fingerprint(),
        dtype=str(model.dtype),
        requests=jsonl.checksum(requests),
        options=options,
    )
    places = share(model, requests)
    try:
        scores, at = score(requests.take(places)) if places else (None, [])
        dropped = scores.dropped if scores else ()
    except NothingToScore as error:
        scores, at, dropped = None, [], error.dropped
    scored = [places[i] for i in at]
    others = sorted(set(places) - set(scored))
    part = Part(scores, scored, dict(zip(others, dropped, strict=True)))
    return _merged(ranks.gather(part), requests)


def share(model: EditableModel, requests: LoadedEdits) -> list[int]:
    """Places of the requests that this rank scores: all ranks have about as many tokens.

    An answer counts three times: once more for the old one, and once for what the head does.
    """
    rows = [target_row(model.tokenizer, one.prompt, one.target_new) for one in requests]
    return distributed.current().balanced_shard(
        [len(row.ids) + 2 * len(row.target) for row in rows]
    )


def shared(model: EditableModel, requests: LoadedEdits) -> LoadedEdits:
    """The requests that this rank scores."""
    return requests.take(share(model, requests))


def _merged(parts: list[Part], requests: LoadedEdits) -> LayerScores:
    """The scores of all requests in their order.

    Raises:
        NothingToScore: all were dropped.
    """
    dropped_at = {place: one for part in parts for place, one in part.dropped.items()}
    dropped = tuple(dropped_at[place] for place in sorted(dropped_at))
    shares = [part.scores for part in parts if part.scores]
    if not shares:
        reasons = {one.reason for one in dropped} or {"there are no requests"}
        raise NothingToScore(f"nothing to score: {'; '.join(sorted(reasons))}", dropped)
    order = np.argsort([place for part in parts for place in part.scored])
    rows = [scores.provenance for scores in shares]
    return replace(
        LayerScores.concatenate(shares).take(order.tolist()),
        kinds=tuple(sorted({request.kind for request in requests})),
        dropped=dropped,
        provenance=rows[0]
        | distributed.current().provenance()
        | {name: sum(row[name] for row in rows) for name in ("sequence_forwards", "unspaced")}
        | {
            name: max(row[name] for row in rows)
            for name in ("seconds_old_answers", "seconds_scoring", "peak_bytes")
        },
    )
