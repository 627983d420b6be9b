"""Locality, also called specificity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lga_fast.metrics import _probes
from lga_fast.metrics._cases import Values
from lga_fast.metrics._scoring import Question, ScoredAnswer
from lga_fast.options import Options
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Metric(Options):
    """Whether other facts are unaffected: share of answer tokens predicted as before the edit.

    The probe's answer is fed to the model, which predicts each of its tokens; whether a prediction
    is right does not matter. Mean over a group's prompts, then over groups.
    """

    unit: ClassVar[str] = "share of answer tokens"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("locality",)

    def questions(self, request: EditRequest) -> list[Question]:
        """The locality probes."""
        return [Question(p.prompt, p.answer) for p in _probes.of_kind(request, "locality")]

    def groups(self, request: EditRequest) -> list[str]:
        """`locality/GROUP` for each group."""
        return _probes.group_names(request, "locality")

    def measure(
        self, request: EditRequest, before: Sequence[ScoredAnswer], after: Sequence[ScoredAnswer]
    ) -> Values:
        """`locality`, and `locality/GROUP` for each group."""
        same = [new.agreement(old) for old, new in zip(before, after, strict=True)]
        return _probes.by_group("locality", _probes.of_kind(request, "locality"), same)
