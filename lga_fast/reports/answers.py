"""A model's answers before and after an edit, on the edited prompt and elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from lga_fast import metrics
from lga_fast.datasets import easyedit_requests
from lga_fast.forward.decoding import greedy
from lga_fast.metrics import Average
from lga_fast.models import EditableModel, check_loaded
from lga_fast.records import EditRequest
from lga_fast.reports import _probes
from lga_fast.tokens import Row, target_row
from lga_fast.weight_edit import WeightEdit

Kind = Literal["prompt", "rephrasing", "unrelated"]
SHOWN = 10  # answers, where there are several requests
_END_OF_WORD = 6  # extra tokens generated to finish a word
_METRICS = ("rewrite", "rephrase", "locality")


@dataclass(frozen=True)
class Answer:
    """What a model answers, decoded greedily."""

    text: str
    probability: float | None  # product over its tokens; None if the model ends the text at once


@dataclass(frozen=True)
class AnswerChange:
    """One prompt's answer before and after an edit.

    Each answer has as many tokens as `target`; if the request states the old answer, the one before
    the edit has as many tokens as that.
    """

    kind: Kind
    prompt: str
    target: str  # the edit's new answer; the true one of an unrelated fact
    new: str  # the edit's new answer
    before: Answer
    after: Answer
    new_before: float  # probability of `new`
    new_after: float


class _Query(NamedTuple):
    kind: Kind
    prompt: str
    target: str
    new: str
    old: str | None = None  # the answer before the edit, as the request states it


@dataclass(frozen=True, repr=False)
class EditReport:
    """Answers and accuracies before and after an edit."""

    requests: int
    took: int  # requests whose new answer the model now gives
    answers: tuple[AnswerChange, ...]  # all kinds for one request, prompts only for several
    before: dict[str, Average]  # rewrite, rephrase, locality over the requests that have them
    after: dict[str, Average]
    probes: dict[str, int]  # number of prompts behind each of these
    rounding: dict[str, float]  # see `lga_fast.models.edit_stack.Applied`
    notes: tuple[str, ...] = ()  # on the edit
    provenance: dict[str, Any] = field(default_factory=dict)  # of the edit

    def __repr__(self) -> str:
        """Its size and success, without the answers."""
        return f"EditReport({self.took} of {self.requests} requests took effect)"

    def to_json(self) -> str:
        """The whole report as JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def compare(
    model: EditableModel,
    requests: Sequence[EditRequest | dict[str, Any]],
    change: WeightEdit,
    *,
    rephrase: str | None = None,
    seed: int = 42,
    notes: Sequence[str] = (),
) -> EditReport:
    """Compare the model's answers with and without the edit; the model is left as it was.

    Args:
        model: the one that the edit was solved on, without the edit.
        requests: what the edit was made for: requests, or dicts in EasyEdit's form.
        change: the edit.
        rephrase: the rephrasing to query, for a single request; default: one of the request's own,
            or one that the atlas has for its prompt.
        seed: draws unrelated facts from the atlas, for a single request without locality probes.
        notes: go into the report, before its own.

    Raises:
        DataError: one of `requests` has not the form of a request.
        EditError: the edit is not of this model.
        ScoringError: a prompt with its answer exceeds the model's context length.
    """
    check_loaded(model)
    edits: list[EditRequest] = easyedit_requests(requests)
    if len(edits) == 1:
        edits = [_probes.completed(model, edits[0], rephrase, seed)]
    kinds = [probe.kind for request in edits for probe in request.probes]
    probes = {"rewrite": len(edits)} | {kind: kinds.count(kind) for kind in _METRICS[1:]}
    queries = _queries(edits)
    measured = metrics.choose(_METRICS)
    cases_before, known = metrics.measure_cases(model, edits, None, measured)
    before = _answers(model, queries, [query.old or query.target for query in queries])
    with model.edited(change) as applied:
        cases, _ = metrics.measure_cases(model, edits, None, measured, known)
        after = _answers(model, queries, [query.target for query in queries])
    return EditReport(
        requests=len(edits),
        took=sum(case["rewrite"] == 1 for case in cases),
        answers=tuple(
            AnswerChange(query.kind, query.prompt, query.target, query.new, old, new, p_old, p_new)
            for query, (old, p_old), (new, p_new) in zip(queries, before, after, strict=True)
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
        return ["no rephrasing of the prompt is known; --rephrase gives one to test"]
    return [f"{kind}: no request has such probes" for kind, count in probes.items() if not count]


def _queries(requests: Sequence[EditRequest]) -> list[_Query]:
    """The prompts whose answers are shown."""
    queries = [
        _Query("prompt", r.prompt, r.target_new, r.target_new, r.target_old)
        for r in requests[:SHOWN]
    ]
    if len(requests) > 1:
        return queries
    (request,) = requests
    rephrasings = [probe for probe in request.probes if probe.kind == "rephrase"]
    new = request.target_new
    old = request.target_old
    queries += [_Query("rephrasing", probe.prompt, new, new, old) for probe in rephrasings[:1]]
    unrelated = _probes.spread(request)
    return queries + [_Query("unrelated", probe.prompt, probe.answer, new) for probe in unrelated]


def _answers(
    model: EditableModel, queries: Sequence[_Query], as_long_as: Sequence[str]
) -> list[tuple[Answer, float]]:
    """The model's own answer to each prompt, and the probability of the new one."""

    def rows(texts: Sequence[str]) -> list[Row]:
        pairs = zip(queries, texts, strict=True)
        return [target_row(model.tokenizer, query.prompt, text) for query, text in pairs]

    new, alike = rows([query.new for query in queries]), rows(as_long_as)
    prompts = [row.ids[: row.start] for row in alike]
    least = [len(row.target) for row in alike]
    longer = greedy(model, prompts, [length + _END_OF_WORD for length in least])
    answers = [_whole_words(model, ids, n) for ids, n in zip(longer, least, strict=True)]
    own = [Row((*p, *ids), len(p)) for p, ids in zip(prompts, answers, strict=True) if ids]
    scored = metrics.score(model, [*new, *own])
    probabilities = [math.exp(math.fsum(answered.log_probs)) for answered in scored]
    of_own = iter(probabilities[len(new) :])
    decode = model.tokenizer.decode
    texts = [decode(ids, skip_special_tokens=True).strip() for ids in answers]
    return [
        (Answer(text, next(of_own) if ids else None), p)
        for text, ids, p in zip(texts, answers, probabilities, strict=False)
    ]


def _whole_words(model: EditableModel, ids: list[int], least: int) -> list[int]:
    """The first `least` tokens, and those that finish the word they end in."""
    for end in range(least, len(ids)):
        before, after = (model.tokenizer.decode(ids[:n]) for n in (end, end + 1))
        if not after[len(before) :][:1].isalnum():
            return ids[:end]
    return ids[:least]  # the word is longer still


def _headline(cases: Sequence[metrics.Values]) -> dict[str, Average]:
    return {k: v for k, v in metrics.averages(cases).items() if k in _METRICS}
