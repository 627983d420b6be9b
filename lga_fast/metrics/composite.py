"""Composite editing: an answer is added to a question that has several (PeakCF).

The names are those of arXiv 2602.20207 (Table 10); their formulas are not published, so these are
lga_fast's own. An answer *holds* when it is likelier than the likeliest of the wrong answers, by
the mean log-probability of its tokens: several right answers cannot all be the most likely one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lga_fast.metrics import _packages, _probes, _texts
from lga_fast.metrics._cases import Values
from lga_fast.metrics._generation import Continuation
from lga_fast.metrics._scoring import Question, ScoredAnswer
from lga_fast.options import Options, option
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Metric(Options):
    """Whether the added answer and those that were right before hold against the wrong ones.

    - `srs`, composite success: share of these answers that hold;
    - `sr_1`: 1 if all of them do, else 0;
    - `gsr`, generalisation: `srs` of the paraphrases, mean over them;
    - `lsr`: ROUGE-L (F1) of what the model writes freely, against the answers joined by commas.

    Requests without lists of right and wrong answers have no value.
    """

    max_total_tokens: int = option(
        100, "Most tokens of the free text, the prompt's included.", min=1
    )

    unit: ClassVar[str] = "share of answers"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("srs", "sr_1", "gsr", "lsr")

    def __post_init__(self) -> None:
        """Refuse what cannot be measured here."""
        super().__post_init__()
        _packages.require("composite", {"rouge_score": "rouge-score"})

    def questions(self, request: EditRequest) -> list[Question | Continuation]:
        """The prompt and its paraphrases with every answer, and the prompt to be continued."""
        right, wrong = _answers(request)
        if not wrong:
            return []
        prompts = [request.prompt, *(p.prompt for p in _probes.of_kind(request, "rephrase"))]
        asks = [Question(prompt, answer) for prompt in prompts for answer in (*right, *wrong)]
        return [*asks, Continuation(request.prompt, self.max_total_tokens)]

    def measure(self, request: EditRequest, before: Sequence[Any], after: Sequence[Any]) -> Values:
        """`srs`, `sr_1`, `gsr`, `lsr`."""
        right, wrong = _answers(request)
        if not wrong:
            return dict.fromkeys(self.headline)
        *scored, written = after
        width = len(right) + len(wrong)
        shares = [
            _holding(scored[at : at + len(right)], scored[at + len(right) : at + width])
            for at in range(0, len(scored), width)
        ]
        return {
            "srs": shares[0],
            "sr_1": float(shares[0] == 1),
            "gsr": _probes.mean(shares[1:]),
            "lsr": _texts.rouge(written.continuation, ", ".join(right))["rouge_l"],
        }


def _answers(request: EditRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The answers that should hold, and those that should not.

    A wrong answer that is also among the right ones says nothing and is left out.
    """
    if request.answers is None:
        return (), ()
    right = tuple(dict.fromkeys((request.target_new, *request.answers.right)))
    return right, tuple(a for a in dict.fromkeys(request.answers.wrong) if a not in right)


def _holding(right: Sequence[ScoredAnswer], wrong: Sequence[ScoredAnswer]) -> float:
    bar = max(answered.log_prob for answered in wrong)
    return sum(answered.log_prob > bar for answered in right) / len(right)
