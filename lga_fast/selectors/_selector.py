"""What every selector is: options, a ranking, and what studies need to know of it.

Facts whose measurements selectors share are in `_measured_facts`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from lga_fast import registry
from lga_fast.errors import ScoringError
from lga_fast.layer_scores import Scope
from lga_fast.models import EditableModel
from lga_fast.options import SEEDS, Options, option
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.scoring.options import ScoringOptions
from lga_fast.selectors import _precision
from lga_fast.selectors._measured_facts import Choice, MeasuredFacts

DEFAULT: str = "lga"  # the member that chooses where none is named
# For those who want to edit: of what costs no more than a few edits, the least regret (README).
TO_EDIT: str = "reach"
# By edits that are made, if a choice is doubted; the part of brute force's cost they may take, and
# how many each layer may have even so: two or three do not tell layers apart.
TO_CHECK: str = "race"
TO_CHECK_SHARE = 0.033
TO_CHECK_LEAST = 4

Basis = Literal["facts", "chance", "user"]
Cost = Literal["passes", "edits", "sweep"]


@dataclass(frozen=True)
class LayerSelector(Options, ABC):
    """Base of every member's `Selector`; dataclass fields are its options.

    The class attributes are what studies need to know, so that no study knows a member by name.
    """

    # What the choice depends on: the facts, a random draw, or the user alone.
    rests_on: ClassVar[Basis] = "facts"
    # What it does: forward and backward passes over the facts; also some edits of them, which take
    # much longer; or an edit of every fact at every layer, so that time grows with their number.
    cost: ClassVar[Cost] = "passes"
    timed_in_paper: ClassVar[bool] = False  # against LGA, in arXiv 2602.20207
    timed_variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # options worth timing, by name

    @property
    def name(self) -> str:
        """The member's name."""
        return type(self).__module__.rpartition(".")[2]

    def check(self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]) -> None:
        """Refuse options that do not fit these; `select_layer` asks before any work."""

    @abstractmethod
    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Choose a layer for these requests; the model is left as it was."""

    def pass_options(self) -> ScoringOptions | None:
        """What it needs of a scoring pass; None: it makes none."""
        return None

    def choose(self, facts: MeasuredFacts) -> Choice:
        """What `rank` chooses, from measurements that are already there where they serve."""
        return Choice.of(self.rank(facts.model, facts.requests))

    def variants(self, facts: MeasuredFacts) -> list[Choice]:
        """`choose`, and variants of the method that are worth comparing with it."""
        return [self.choose(facts)]


@dataclass(frozen=True)
class Seeded(Options):
    """Options of what draws at random."""

    seed: int = option(42, "Seed of all that is random.", **SEEDS)


@dataclass(frozen=True)
class Resampling(Seeded):
    """Options of what measures how firm a choice is."""

    bootstrap: int = option(200, "Resamples of the facts that measure stability.", min=0)


@dataclass(frozen=True)
class FenceOptions(Options):
    """Options of Tukey's fences around a sum over parameters."""

    tukey: float | None = option(
        None, "Fence constant; default 1.0, or 0.5 for composite, unstructured data.", min=0
    )
    scope: Scope = option("mlp_all", "Parameters that are summed over.")


def refuse_equal(selector: str, scores: Sequence[float], why: str) -> None:
    """Refuse a selector's scores if all are equal; `why` and how to mend it follow."""
    if len(scores) > 1 and len(set(scores)) == 1:
        raise ScoringError(
            f"{selector}: expected scores that tell layers apart, got {scores[0]:.4g} at each of "
            f"{len(scores)} layers; {why}"
        )


def without_part(per_request: Float[np.ndarray, "request layer"]) -> list[str]:
    """A note on facts that say nothing of any layer."""
    count = int((per_request == 0).all(1).sum())
    facts = f"{count} of {len(per_request)} facts"
    return [f"{facts} score 0 at every layer and take no part in the choice."] if count else []


def to_check(reasons: Sequence[str], layers: int, facts: int, editor: str = "r_rome") -> str:
    """A note on doubts about a choice of so many layers, and what settles them at which cost."""
    cheaper = registry.member("lga_fast.editors", editor).Editor().times_cheaper
    edits = math.ceil(layers * max(TO_CHECK_SHARE * facts, TO_CHECK_LEAST / cheaper))
    return (
        f"Check this choice: {'; '.join(reasons)}. {TO_CHECK} edits a few facts at every layer, "
        f"which takes as long as about {edits} edits."
    )


def excluded(layers: int, order: Iterable[int]) -> tuple[int, ...]:
    """Those of so many layers that are not in a ranking's order."""
    return tuple(sorted(set(range(layers)) - set(order)))


def without_mlp(provenance: Mapping[str, Any]) -> list[int]:
    """Layers that no ranking has, since they have no MLP; of the model that a result is of."""
    return provenance.get("layers_without_mlp") or []


def with_notes(
    ranking: LayerRanking, own: list[str], tie_break: str = "the lowest is taken"
) -> LayerRanking:
    """`ranking` with notes on guesses, ties and doubts, and the selector's `own` notes."""
    guess = ranking.provenance.get("family_guess")
    notes = [guess] if guess else []
    if mixing := without_mlp(ranking.provenance):
        notes.append(
            f"Layers {', '.join(map(str, mixing))} are not ranked: they have no MLP of their own, "
            "they only mix tokens."
        )
    last = len(ranking.scores) - 1
    reaching = ranking.provenance.get("last_reaching_layer")
    reaching = last - 1 if reaching is None else reaching
    if ranking.layer > reaching:
        which = " is the last one" if ranking.layer == last else ""
        better = next((layer for layer in ranking.order if layer <= reaching), None)
        notes.append(
            f"Layer {ranking.layer}{which}: an edit there cannot reach later tokens, because "
            "nothing after it reads the subject's position anew."
            + (
                f" Prefer the next one in the ranking that can ({better})."
                if better is not None
                else ""
            )
        )
    if unspaced := ranking.provenance.get("unspaced"):
        notes.append(
            f"{unspaced} answers follow their prompts without a space, as in the prompts' script; "
            "a target that begins with a space keeps it."
        )
    notes += own
    if not any(" cannot tell layer " in note for note in own):
        notes += _precision.near_tie(ranking)
    best = ranking.scores[ranking.layer]
    tied = sorted(layer for layer in ranking.order if ranking.scores[layer] == best)
    if len(tied) > 1:
        notes.append(f"Layers {', '.join(map(str, tied))} tie at {best:.4g}: {tie_break}.")
    share = ranking.stability[ranking.layer] if ranking.stability else 1.0
    if share < 0.5:
        notes.append(
            f"Only {share:.0%} of the bootstrap resamples choose layer {ranking.layer}: more proxy "
            "facts would make the choice firmer."
        )
    return replace(ranking, notes=tuple(notes))
