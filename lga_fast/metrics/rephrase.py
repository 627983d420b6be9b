"""Rephrase accuracy, also called generality."""

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
    """Whether paraphrases get the new answer too: share of its tokens, mean over paraphrases."""

    unit: ClassVar[str] = "share of answer tokens"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("rephrase",)

    def questions(self, request: EditRequest) -> list[Question]:
        """The paraphrases, with the request's own new answer."""
        probes = _probes.of_kind(request, "rephrase")
        return [Question(probe.prompt, request.target_new) for probe in probes]

    def measure(
        self, request: EditRequest, before: Sequence[ScoredAnswer], after: Sequence[ScoredAnswer]
    ) -> Values:
        """`rephrase`."""
        return {"rephrase": _probes.mean([answered.accuracy for answered in after])}
