"""The data that flows through lga_fast; frozen dataclasses with next to no behaviour."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from lga_fast.errors import DataError, Dropped
from lga_fast.parsing import parse_json

ProbeKind = Literal["rephrase", "locality", "portability"]
EditKind = Literal["factual", "composite", "unstructured"]


@dataclass(frozen=True)
class Probe:
    """A prompt that tells what an edit did elsewhere."""

    kind: ProbeKind
    group: str  # e.g. "Relation_Specificity"; equals `kind` where a data set names no groups
    prompt: str
    answer: str
    aliases: tuple[str, ...] = ()  # other right answers


@dataclass(frozen=True)
class AnswerLists:
    """Answers to a question that has several; an edit adds `target_new` to them."""

    right: tuple[str, ...]  # right before the edit, and meant to stay right
    wrong: tuple[str, ...]  # false, of the same sort as the added answer
    unrelated: tuple[str, ...] = ()  # false and of no sort: the background


@dataclass(frozen=True)
class EditRequest:
    """One fact to change: `prompt` should be answered by `target_new`."""

    case_id: str
    prompt: str  # full text, the subject inside
    target_new: str
    subject: str | None = None
    subject_span: tuple[int, int] | None = None  # character offsets [start, end) in `prompt`
    target_old: str | None = None
    probes: tuple[Probe, ...] = ()
    answers: AnswerLists | None = None  # composite editing only
    kind: EditKind = "factual"  # selectors fence composite and unstructured data more tightly

    def __post_init__(self) -> None:
        """Refuse a request that no method could use."""

        def check(fits: bool, name: str, expected: str) -> None:
            if not fits:
                raise DataError(
                    f"edit request {self.case_id!r}: {name} must be {expected}, "
                    f"got {getattr(self, name)!r}"
                )

        for name in ("case_id", "prompt", "target_new"):
            value = getattr(self, name)
            check(isinstance(value, str) and bool(value.strip()), name, "a non-empty string")
        for name in ("subject", "target_old"):
            check(isinstance(getattr(self, name), str | None), name, "a string or None")
        some = isinstance(self.probes, tuple | list)
        check(some and all(isinstance(p, Probe) for p in self.probes), "probes", "a tuple of Probe")
        check(isinstance(self.answers, AnswerLists | None), "answers", "AnswerLists or None")
        kinds = get_args(EditKind)
        check(self.kind in kinds, "kind", f"one of {', '.join(kinds)}")
        if self.subject_span is not None:
            some = isinstance(self.subject_span, tuple | list)
            whole = some and [type(i) for i in self.subject_span] == [int, int]
            check(whole, "subject_span", "two whole numbers")
            start, end = self.subject_span
            if self.subject is None or self.prompt[start:end] != self.subject:
                raise DataError(
                    f"edit request {self.case_id!r}: subject_span {self.subject_span} cuts "
                    f"{self.prompt[start:end]!r} out of the prompt, expected {self.subject!r}"
                )


def find_subject(prompt: str, subject: str | None) -> tuple[int, int] | None:
    """Character offsets of the first occurrence of `subject` in `prompt`; None if there is none."""
    start = prompt.find(subject) if subject else -1
    return None if start < 0 else (start, start + len(subject or ""))


@dataclass(frozen=True, repr=False)
class LayerRanking:
    """A selector's choice and all it rests on; `int(ranking)` is the layer.

    It is a whole number to Python: `edit(..., layer=ranking)` and `blocks[ranking]` work too.
    """

    layer: int
    selector: str
    scores: tuple[float, ...]  # one per layer, larger is better
    order: tuple[int, ...]  # kept layers, best first
    score_label: str = "score"  # what a score is, and its unit
    excluded: tuple[int, ...] = ()
    fences: tuple[float, float] | None = None
    raw_argmax: int | None = None  # the choice, had nothing been excluded
    argmax_by_scope: dict[str, int] = field(default_factory=dict)
    stability: tuple[float, ...] = ()  # share of bootstrap resamples that chose each layer
    confidence: float | None = None  # probability that no layer's score is higher by over 0.05
    positive_share: tuple[float, ...] = ()  # share of requests whose score is positive, per layer
    requests: int = 0
    case_ids: tuple[str, ...] = ()  # of the facts it rests on, for `evaluate(..., proxy=case_ids)`
    known: int = 0
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()  # what a reader must know before using the layer
    provenance: dict[str, Any] = field(default_factory=dict)

    def __index__(self) -> int:
        """The layer, wherever Python or lga_fast takes a whole number."""
        return self.layer

    def __repr__(self) -> str:
        """The choice, without what it rests on."""
        facts = f"{self.requests} facts"
        return f"LayerRanking({self.selector}: layer {self.layer} of {len(self.scores)}, {facts})"

    def _repr_html_(self) -> str | None:
        from lga_fast.reports.notebook import ranking_html

        return ranking_html(self)

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal ranking."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> LayerRanking:
        """The ranking of a text written by `to_json`.

        Raises:
            DataError: the text is not such a ranking.
        """
        try:
            data = parse_json(text)
            lists = {k: tuple(v) for k, v in data.items() if isinstance(v, list)}
            lists["dropped"] = tuple(Dropped(**d) for d in data.get("dropped", ()))
            return cls(**{**data, **lists})
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"not a LayerRanking written by lga_fast: {error}") from error


@dataclass(frozen=True)
class MultipleChoice:
    """A question with lettered choices, for what an edit did to general ability."""

    case_id: str
    question: str
    choices: tuple[str, ...]
    answer: int  # index into `choices`
    topic: str = ""


@dataclass(frozen=True)
class KnownFact:
    """A fact that a model is expected to know, for causal tracing."""

    case_id: str
    prompt: str
    attribute: str  # what should follow the prompt
    subject: str
    subject_span: tuple[int, int] | None = None  # character offsets [start, end) in `prompt`
