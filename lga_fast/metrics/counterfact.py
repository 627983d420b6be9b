"""CounterFact's own measures: the new answer against the old one (ROME, arXiv 2202.05262, §3.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import harmonic_mean
from typing import ClassVar

from lga_fast.evaluation_records import Average
from lga_fast.metrics import _probes
from lga_fast.metrics._cases import Values
from lga_fast.metrics._scoring import Question, ScoredAnswer
from lga_fast.options import Options
from lga_fast.records import EditRequest, Probe

_SCORES = ("es", "ps", "ns")


@dataclass(frozen=True)
class Metric(Options):
    """Whether the more probable answer is the right one: of the new answer and of the old one.

    - `es`, efficacy: 1 if the new answer is more probable than the old one, else 0;
    - `ps`: the same of the paraphrases, mean over them;
    - `ns`: share of the probes of group 'neighborhood' whose own answer is the more probable one;
    - `em`, `pm`, `nm`, magnitudes: by how much, as a difference of the two probabilities;
    - `s`, of all requests together: harmonic mean of the means of `es`, `ps` and `ns`.

    An answer's probability is exp of the mean log-probability of its tokens, as in ROME's code:
    with their sum, the shorter of two answers would win for its length. Requests without an old
    answer have no `es`, `ps`, `em` and `pm`. In `overall` none of them counts, because accuracies
    measure the same there.
    """

    unit: ClassVar[str] = "share of prompts (es, ps, ns), difference of probabilities (em, pm, nm)"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ()

    def questions(self, request: EditRequest) -> list[Question]:
        """Every prompt with the answer that should win, then with the other."""
        return [Question(*pair) for pairs in _contests(request).values() for pair in pairs]

    def measure(
        self, request: EditRequest, before: Sequence[ScoredAnswer], after: Sequence[ScoredAnswer]
    ) -> Values:
        """`es`, `ps`, `ns`, `em`, `pm`, `nm`."""
        scored = iter(after)
        values: Values = {}
        for kind, pairs in _contests(request).items():
            rows = [next(scored).log_prob for _ in pairs]
            contests = list(zip(rows[::2], rows[1::2], strict=True))
            values[f"{kind}s"] = _probes.mean([float(right > other) for right, other in contests])
            margins = [math.exp(right) - math.exp(other) for right, other in contests]
            values[f"{kind}m"] = _probes.mean(margins)
        return values

    def aggregate(self, means: Mapping[str, Average]) -> dict[str, Average]:
        """`s`, from the means over the requests; none without all three of them."""
        if not all(name in means for name in _SCORES):
            return {}
        score = harmonic_mean([means[name].mean for name in _SCORES])
        return {"s": Average(float(score), 0.0, min(means[name].count for name in _SCORES))}


def _contests(request: EditRequest) -> dict[str, list[tuple[str, str]]]:
    """By kind, prompts with the answer that should win, each followed by itself with the other."""
    new, old = request.target_new, request.target_old
    neighbors = [p for p in _probes.of_kind(request, "locality") if p.group == "neighborhood"]
    contests = {"e": [], "p": [], "n": _against(neighbors, new)}
    if old and old.strip() and old.strip() != new.strip():
        rephrased = [probe.prompt for probe in _probes.of_kind(request, "rephrase")]
        for kind, prompts in (("e", [request.prompt]), ("p", rephrased)):
            contests[kind] = [(prompt, answer) for prompt in prompts for answer in (new, old)]
    return contests


def _against(probes: Sequence[Probe], new: str) -> list[tuple[str, str]]:
    return [(probe.prompt, answer) for probe in probes for answer in (probe.answer, new)]
