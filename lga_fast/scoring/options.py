"""What a scoring pass can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from lga_fast.errors import NothingToScore, ScoringError
from lga_fast.records import Dropped
from lga_fast.scoring.pairs import Pair

LossScope = Literal["target", "full"]
Reduction = Literal["mean", "sum"]


def check_options(loss_scope: str, reduction: str) -> None:
    """Refuse options that a pass does not know; raises `ScoringError`."""
    for name, value, kind in (
        ("loss_scope", loss_scope, LossScope),
        ("reduction", reduction, Reduction),
    ):
        if value not in get_args(kind):
            known = " or ".join(map(repr, get_args(kind)))
            raise ScoringError(f"{name}={value!r}: expected {known}")


def check_pairs(pairs: Sequence[Pair], dropped: Sequence[Dropped]) -> None:
    """Refuse a pass over nothing; raises `NothingToScore`."""
    if not pairs:
        reasons = {d.reason for d in dropped} or {"there are no requests"}
        raise NothingToScore(f"nothing to score: {'; '.join(sorted(reasons))}", dropped)
