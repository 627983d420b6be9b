"""Rewrite accuracy, also called efficacy or reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lga_fast.metrics._cases import Values
from lga_fast.metrics._scoring import Question, ScoredAnswer
from lga_fast.options import Options
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Metric(Options):
    """Whether the edited prompt gets the new answer: share of its tokens, teacher-forced."""

    unit: ClassVar[str] = "share of answer tokens"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("rewrite",)

    def questions(self, request: EditRequest) -> list[Question]:
        """The request itself."""
        return [Question(request.prompt, request.target_new)]

    def measure(
        self, request: EditRequest, before: Sequence[ScoredAnswer], after: Sequence[ScoredAnswer]
    ) -> Values:
        """`rewrite`."""
        return {"rewrite": after[0].accuracy}
