"""Portability: what follows from the edit."""

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
    """Whether questions that build on the edit get their answer: share of its tokens.

    The answer is a probe's first alias. Mean over a group's prompts, then over groups.
    """

    unit: ClassVar[str] = "share of answer tokens"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("portability",)

    def questions(self, request: EditRequest) -> list[Question]:
        """The portability probes."""
        return [Question(p.prompt, p.answer) for p in _probes.of_kind(request, "portability")]

    def groups(self, request: EditRequest) -> list[str]:
        """`portability/GROUP` for each group."""
        return _probes.group_names(request, "portability")

    def measure(
        self, request: EditRequest, before: Sequence[ScoredAnswer], after: Sequence[ScoredAnswer]
    ) -> Values:
        """`portability`, and `portability/GROUP` for each group."""
        right = [answered.accuracy for answered in after]
        return _probes.by_group("portability", _probes.of_kind(request, "portability"), right)
