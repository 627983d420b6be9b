"""MMLU: what an edit did to general ability (Hendrycks et al. 2021, arXiv 2009.03300)."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from lga_fast import datasets
from lga_fast.errors import MetricError
from lga_fast.metrics._cases import Values
from lga_fast.metrics._scoring import Question, ScoredAnswer
from lga_fast.options import SEEDS, Options, option
from lga_fast.records import EditRequest, MultipleChoice

_HEADER = "The following are multiple choice questions (with answers).\n\n"


@dataclass(frozen=True)
class Metric(Options):
    """Share of multiple-choice questions where the right letter is the likeliest of the letters.

    The prompt holds worked examples and the question, each as "A. ...", and ends in "Answer:".
    """

    path: str | None = option(None, "File of questions, e.g. mmlu_1516.jsonl.", path=True)
    shots: str | None = option(None, "File of worked examples, all of them shown.", path=True)
    per_request: int = option(2, "Questions drawn for each request; 0: all of them.", min=0)
    seed: int = option(42, "Seed of the draw.", **SEEDS)

    unit: ClassVar[str] = "share of questions"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("mmlu",)

    def __post_init__(self) -> None:
        """Refuse to start without questions."""
        super().__post_init__()
        if self.path is None:
            raise MetricError(
                "mmlu: expected the path of a file of questions, got none: "
                "choose(['mmlu'], {'mmlu': {'path': 'mmlu_1516.jsonl', ...}})"
            )
        if self.per_request > len(self._questions):
            raise MetricError(
                f"mmlu: per_request={self.per_request}: expected 0 to {len(self._questions)}, the "
                f"number of questions in {self.path}"
            )

    def questions(self, request: EditRequest) -> list[Question]:
        """The questions drawn for this request, each with every letter for an answer."""
        return [
            Question(self._examples + _format(drawn), letter)
            for drawn in self._draw(request)
            for letter in _letters(drawn)
        ]

    def measure(
        self, request: EditRequest, before: Sequence[ScoredAnswer], after: Sequence[ScoredAnswer]
    ) -> Values:
        """`mmlu`."""
        correct, at = [], 0
        for drawn in self._draw(request):
            sums = [sum(answered.log_probs) for answered in after[at : at + len(drawn.choices)]]
            correct.append(sums.index(max(sums)) == drawn.answer)
            at += len(drawn.choices)
        return {"mmlu": sum(correct) / len(correct)}

    def _draw(self, request: EditRequest) -> Sequence[MultipleChoice]:
        if not self.per_request:
            return self._questions
        return random.Random(f"{self.seed} {request.case_id}").sample(
            self._questions, self.per_request
        )

    @cached_property
    def _questions(self) -> list[MultipleChoice]:
        return list(datasets.load("mmlu", self.path))

    @cached_property
    def _examples(self) -> str:
        shots: list[MultipleChoice] = list(datasets.load("mmlu", self.shots)) if self.shots else []
        return _HEADER + "".join(f"{_format(s)} {_letters(s)[s.answer]}\n\n" for s in shots)


def _letters(question: MultipleChoice) -> str:
    return string.ascii_uppercase[: len(question.choices)]


def _format(question: MultipleChoice) -> str:
    choices = zip(_letters(question), question.choices, strict=True)
    return "\n".join([question.question, *(f"{x}. {text}" for x, text in choices), "Answer:"])
