"""What a reader must know before using a layer, whichever selector chose it."""

from __future__ import annotations

from dataclasses import replace

from lga_fast.records import LayerRanking


def with_notes(ranking: LayerRanking, own: list[str]) -> LayerRanking:
    """`ranking` with notes on guesses and doubts, and the selector's `own` notes."""
    guess = ranking.provenance.get("family_guess")
    notes = [guess] if guess else []
    last = len(ranking.scores) - 1
    if ranking.layer == last:
        notes.append(
            f"Layer {last} is the last one: an edit there cannot reach later tokens, because "
            "nothing after it reads the subject's position. Prefer the next layer in the ranking"
            + (f" ({ranking.order[1]})." if len(ranking.order) > 1 else ".")
        )
    notes += own
    share = ranking.stability[ranking.layer] if ranking.stability else 1.0
    if share < 0.5:
        notes.append(
            f"Only {share:.0%} of the bootstrap resamples choose layer {ranking.layer}: more proxy "
            "facts would make the choice firmer."
        )
    return replace(ranking, notes=tuple(notes))
