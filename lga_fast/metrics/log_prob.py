"""Log-probability of the answers: what accuracy rounds to right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lga_fast.metrics import _probes
from lga_fast.metrics._cases import Values
from lga_fast.metrics._scoring import Question, ScoredAnswer
from lga_fast.options import Options
from lga_fast.records import EditRequest, ProbeKind


@dataclass(frozen=True)
class Metric(Options):
    """How probable the answers are: mean log-probability of an answer's tokens, teacher-forced.

    Of the new answer to the request's prompt and to its paraphrases. Of the locality probes' own
    answers, by how much it changes, up or down, as a negative number.
    """

    unit: ClassVar[str] = "nats per answer token"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ()  # in nats: no part of a mean of shares

    def questions(self, request: EditRequest) -> list[Question]:
        """The request itself, its paraphrases and its locality probes."""
        rephrase = _probes.of_kind(request, "rephrase")
        locality = _probes.of_kind(request, "locality")
        return [
            Question(request.prompt, request.target_new),
            *[Question(probe.prompt, request.target_new) for probe in rephrase],
            *[Question(probe.prompt, probe.answer) for probe in locality],
        ]

    def measure(
        self, request: EditRequest, before: Sequence[ScoredAnswer], after: Sequence[ScoredAnswer]
    ) -> Values:
        """`log_prob`, and over the probes there are `log_prob/rephrase`, `log_prob/locality`."""
        values = [answer.log_prob for answer in after]
        changes = [-abs(value - old.log_prob) for value, old in zip(values, before, strict=True)]
        end = 1 + len(_probes.of_kind(request, "rephrase"))
        return {
            "log_prob": values[0],
            "log_prob/rephrase": _probes.mean(values[1:end]),
            "log_prob/locality": _probes.mean(changes[end:]),
        }

    def groups(self, request: EditRequest) -> list[str]:
        """Names of its values over probes."""
        kinds: tuple[ProbeKind, ...] = ("rephrase", "locality")
        return [f"log_prob/{kind}" for kind in kinds if _probes.of_kind(request, kind)]
