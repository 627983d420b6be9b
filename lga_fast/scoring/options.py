"""What a scoring pass can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lga_fast.options import Options, option

OldAnswer = Literal["model", "ground_truth"]
LossScope = Literal["target", "full"]
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class ScoringOptions(Options):
    """What decides the scores of given requests, besides the model; see `score_layers`."""

    old: OldAnswer | None = option(
        "model", "Where old answers come from; None: new answers only, which costs less than half."
    )
    abs_new: bool = option(False, "Collect sums of the new answers' absolute gradients too.")
    at_subject: bool = option(
        False, "Collect what a change at the subject would do, to first order, too."
    )
    loss_scope: LossScope = option("target", "Tokens the loss counts: the answer's, or all.")
    reduction: Reduction = option("mean", "Loss over a row's labelled tokens.")
    batch_tokens: int = option(4096, "Tokens in one batch at most.", min=1)


DEFAULTS = ScoringOptions()
