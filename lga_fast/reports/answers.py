"""What an edit did to a model's answers: before and after, on the prompt and elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from lga_fast import metrics
from lga_fast.forward.decoding import greedy
from lga_fast.metrics import Average
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.reports import _probes
from lga_fast.tokens import Row, target_row
from lga_fast.weight_edit import WeightEdit

Kind = Literal["prompt", "rephrasing", "unrelated"]
SHOWN = 10  # of several requests
_END_OF_WORD = 6  # tokens that a word may go on for
_METRICS = ("rewrite", "rephrase", "locality")


@dataclass(frozen=True)
class Answer:
    """What a model answers by itself, token by token the most likely one."""

    text: str
    probability: float | None  # product over its tokens; None where the model ends the text at once


@dataclass(frozen=True)
class AnswerChange:
    """One prompt's answer before and after an edit.

    Either answer is of as many tokens as `target` has; but where the request says the old answer,
    the one before is of as many as that has.
    """

    kind: Kind
    prompt: str
    target: str  # the edit's new answer; the true one of an unrelated fact
    new: str  # the edit's new answer
    before: Answer
    after: Answer
    new_before: float  # probability of `new`
    new_after: float


class _Asked(NamedTuple):
    kind: Kind
    prompt: str
    target: str
    new: str
    old: str | None = None  # what the request takes for the answer so far


@dataclass(frozen=True)
class EditReport:
    """What became of a model's answers."""

    requests: int
    took: int  # requests whose new answer is the model's own now
    answers: tuple[AnswerChange, ...]  # of one request all kinds, of several the prompts
    before: dict[str, Average]  # rewrite, rephrase, locality over the requests that have it
    after: dict[str, Average]
    probes: dict[str, int]  # how many prompts each of these was asked with
    rounding: dict[str, float]  # see `lga_fast.models.edit_stack.Applied`
    notes: tuple[str, ...] = ()  # what there is to know of the edit
    provenance: dict[str, Any] = field(default_factory=dict)  # of the edit

    def to_json(self) -> str:
        """Everything as JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def compare(
    model: EditableModel,
    requests: Sequence[EditRequest],
    change: WeightEdit,
    *,
    rephrase: str | None = None,
    seed: int = 42,
    notes: Sequence[str] = (),
) -> EditReport:
    """Ask the model with and without the edit; it stays as it was.

    Args:
        model: the one that the edit was solved on, without the edit.
        requests: what the edit was made for.
        change: the edit.
        rephrase: of a single request, the rephrasing to ask; default: one that the request has, or
            that the atlas has of its prompt.
        seed: draws unrelated facts of the atlas, for a single request without locality probes.
        notes: kept with the report, before its own.

    Raises:
        EditError: the edit is not of this model.
        ScoringError: a prompt with its answer is longer than the model takes.
    """
    if len(requests) == 1:
        requests = [_probes.completed(model, requests[0], rephrase, seed)]
    kinds = [probe.kind for request in requests for probe in request.probes]
    probes = {"rewrite": len(requests)} | {kind: kinds.count(kind) for kind in _METRICS[1:]}
    asked = _asked(requests)
    measured = metrics.choose(_METRICS)
    cases_before, known = metrics.measure_cases(model, requests, None, measured)
    before = _answers(model, asked, [ask.old or ask.target for ask in asked])
    with model.edited(change) as applied:
        cases, _ = metrics.measure_cases(model, requests, None, measured, known)
        after = _answers(model, asked, [ask.target for ask in asked])
    return EditReport(
        requests=len(requests),
        took=sum(case["rewrite"] == 1 for case in cases),
        answers=tuple(
            AnswerChange(ask.kind, ask.prompt, ask.target, ask.new, answer, now, p, p_now)
            for ask, (answer, p), (now, p_now) in zip(asked, before, after, strict=True)
        ),
        before=_headline(cases_before),
        after=_headline(cases),
        probes=probes,
        rounding=applied.rounding,
        notes=(*notes, *_missing(probes)),
        provenance=change.provenance,
    )


def _missing(probes: dict[str, int]) -> list[str]:
    if probes["rewrite"] == 1 and not probes["rephrase"]:
        return ["no rephrasing of the prompt is known, so none was asked; give one (--rephrase)"]
    return [f"{kind}: no request has such probes" for kind, count in probes.items() if not count]


def _asked(requests: Sequence[EditRequest]) -> list[_Asked]:
    """What is shown."""
    asked = [
        _Asked("prompt", r.prompt, r.target_new, r.target_new, r.target_old)
        for r in requests[:SHOWN]
    ]
    if len(requests) > 1:
        return asked
    (request,) = requests
    rephrasings = [probe for probe in request.probes if probe.kind == "rephrase"]
    new = request.target_new
    old = request.target_old
    asked += [_Asked("rephrasing", probe.prompt, new, new, old) for probe in rephrasings[:1]]
    unrelated = _probes.spread(request)
    return asked + [_Asked("unrelated", probe.prompt, probe.answer, new) for probe in unrelated]


def _answers(
    model: EditableModel, asked: Sequence[_Asked], as_long_as: Sequence[str]
) -> list[tuple[Answer, float]]:
    """The model's own answer to each prompt, and the probability of the new one."""

    def rows(texts: Sequence[str]) -> list[Row]:
        pairs = zip(asked, texts, strict=True)
        return [target_row(model.tokenizer, ask.prompt, text) for ask, text in pairs]

    new, alike = rows([ask.new for ask in asked]), rows(as_long_as)
    prompts = [row.ids[: row.start] for row in alike]
    least = [len(row.target) for row in alike]
    longer = greedy(model, prompts, [length + _END_OF_WORD for length in least])
    written = [_whole_words(model, w, n) for w, n in zip(longer, least, strict=True)]
    own = [Row((*p, *w), len(p)) for p, w in zip(prompts, written, strict=True) if w]
    found = metrics.score(model, [*new, *own])
    sure = [math.exp(math.fsum(answered.log_probs)) for answered in found]
    of_own = iter(sure[len(new) :])
    decode = model.tokenizer.decode
    texts = [decode(w, skip_special_tokens=True).strip() for w in written]
    return [
        (Answer(text, next(of_own) if w else None), p)
        for text, w, p in zip(texts, written, sure, strict=False)
    ]


def _whole_words(model: EditableModel, ids: list[int], least: int) -> list[int]:
    """The first `least` tokens and those that end the word they stop in."""
    for end in range(least, len(ids)):
        before, after = (model.tokenizer.decode(ids[:n]) for n in (end, end + 1))
        if not after[len(before) :][:1].isalnum():
            return ids[:end]
    return ids[:least]  # no end in sight


def _headline(cases: Sequence[metrics.Values]) -> dict[str, Average]:
    return {k: v for k, v in metrics.averages(cases).items() if k in _METRICS}
