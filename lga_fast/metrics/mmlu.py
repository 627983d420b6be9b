"""MMLU: what an edit did to general ability (Hendrycks et al. 2021, arXiv 2009.03300)."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from lga_fast.errors import MetricError
from lga_fast.metrics._cases import Values
from lga_fast.metrics._scoring import Answered, Question
from lga_fast.records import EditRequest, MultipleChoice

_HEADER = "The following are multiple choice questions (with answers).\n\n"


@dataclass(frozen=True)
class Metric:
    """Share of multiple-choice questions where the right letter is the likeliest of the letters.

    The prompt holds worked examples and the question, each as "A. ...", and ends in "Answer:".
    """

    path: str = field(default="", metadata={"help": "File of questions, e.g. mmlu_1516.jsonl."})
    shots: str = field(default="", metadata={"help": "File of worked examples, all of them shown."})
    per_request: int = field(
        default=2, metadata={"help": "Questions drawn for each request; 0: all of them."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the draw."})

    unit: ClassVar[str] = "share of questions"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("mmlu",)

    def __post_init__(self) -> None:
        """Refuse to start without questions."""
        if not self.path:
            raise MetricError(
                "mmlu: expected the path of a file of questions, got none: "
                "choose(['mmlu'], {'mmlu': {'path': 'mmlu_1516.jsonl', ...}})"
            )
        if not 0 <= self.per_request <= len(self._questions):
            raise MetricError(
                f"mmlu: per_request={self.per_request}: expected 0 to {len(self._questions)}, the "
                f"number of questions in {self.path}"
            )

    def questions(self, request: EditRequest) -> list[Question]:
        """The questions drawn for this request, each with every letter for an answer."""
        return [
            Question(self._examples + _shown(drawn), letter)
            for drawn in self._drawn(request)
            for letter in _letters(drawn)
        ]

    def measure(
        self, request: EditRequest, before: Sequence[Answered], after: Sequence[Answered]
    ) -> Values:
        """`mmlu`."""
        right, at = [], 0
        for drawn in self._drawn(request):
            sums = [sum(answered.log_probs) for answered in after[at : at + len(drawn.choices)]]
            right.append(sums.index(max(sums)) == drawn.answer)
            at += len(drawn.choices)
        return {"mmlu": sum(right) / len(right)}

    def _drawn(self, request: EditRequest) -> Sequence[MultipleChoice]:
        if not self.per_request:
            return self._questions
        return random.Random(f"{self.seed} {request.case_id}").sample(
            self._questions, self.per_request
        )

    @cached_property
    def _questions(self) -> list[MultipleChoice]:
        from lga_fast.datasets import load

        return list(load("mmlu", self.path))

    @cached_property
    def _examples(self) -> str:
        from lga_fast.datasets import load

        shots: list[MultipleChoice] = list(load("mmlu", self.shots)) if self.shots else []
        return _HEADER + "".join(f"{_shown(s)} {_letters(s)[s.answer]}\n\n" for s in shots)


def _letters(question: MultipleChoice) -> str:
    return string.ascii_uppercase[: len(question.choices)]


def _shown(question: MultipleChoice) -> str:
    choices = zip(_letters(question), question.choices, strict=True)
    return "\n".join([question.question, *(f"{x}. {text}" for x, text in choices), "Answer:"])
