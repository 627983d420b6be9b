"""The data that flows through lga_fast; frozen dataclasses with next to no behaviour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from lga_fast.errors import DataError, Dropped, ScoringError

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
        for name in ("case_id", "prompt", "target_new"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise DataError(
                    f"edit request {self.case_id!r}: {name} must be a non-empty string, "
                    f"got {value!r}"
                )
        if self.subject_span is not None:
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


Scope = Literal["mlp_all", "mlp_weights", "edited_only"]
SCOPES: tuple[Scope, ...] = ("mlp_all", "mlp_weights", "edited_only")

# The fields of `LayerScores` whose first axis is the request: arrays, and arrays by parameter.
_BY_REQUEST = ("loss_old", "loss_new", "known", "says_new")
_BY_PARAMETER = ("dot", "norm2_old", "norm2_new", "abs_new", "per_expert")


@dataclass(frozen=True)
class LayerScores:
    """Inner products of old- and new-answer gradients, per request, layer and parameter.

    `dot[name]` is `<∇ℓ(Q∪K), ∇ℓ(Q∪K')>` (arXiv 2602.20207 §5.1) for a parameter such as
    `down.weight`; `norm2_old` and `norm2_new` are the squared norms of its two sides. `abs_new`
    are the sums over a new-answer gradient's absolute values, of weights only and only where they
    were asked for. What needs an old answer is NaN in a pass without old answers.

    Of a mixture of experts the parameters of a layer's experts are added up, and `per_expert` has
    what each adds to `dot`: 0 where none of a request's tokens went to it, and in layers without
    experts. An expert shared by all tokens has names of its own (`shared_down.weight`); routers
    have no part in any score.
    """

    case_ids: tuple[str, ...]  # the requests that were scored, in their order
    dot: dict[str, Float[np.ndarray, "request layer"]]
    norm2_old: dict[str, Float[np.ndarray, "request layer"]]
    norm2_new: dict[str, Float[np.ndarray, "request layer"]]
    loss_old: Float[np.ndarray, " request"]  # cross entropy in nats, reduced as `provenance` says
    loss_new: Float[np.ndarray, " request"]
    known: Bool[np.ndarray, " request"]  # old and new answer are the same
    says_new: Bool[np.ndarray, " request"]  # the model's greedy answer is the new one
    edited: str  # role of the matrix that editors rewrite
    abs_new: dict[str, Float[np.ndarray, "request layer"]] = field(default_factory=dict)
    sizes: dict[str, Int[np.ndarray, " layer"]] = field(default_factory=dict)  # elements
    per_expert: dict[str, Float[np.ndarray, "request layer expert"]] = field(default_factory=dict)
    kinds: tuple[EditKind, ...] = ("factual",)  # that occur among the requests
    dropped: tuple[Dropped, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def take(self, places: Sequence[int]) -> LayerScores:
        """The scores of the requests at these places, in this order."""
        at = np.asarray(places, dtype=int)
        return replace(
            self,
            case_ids=tuple(self.case_ids[i] for i in at),
            **{name: getattr(self, name)[at] for name in _BY_REQUEST},
            **{
                table: {name: x[at] for name, x in getattr(self, table).items()}
                for table in _BY_PARAMETER
            },
        )

    @classmethod
    def concatenate(cls, parts: Sequence[LayerScores]) -> LayerScores:
        """The scores of all parts' requests, one part after another.

        Parts are of one model and of equal options; `provenance` is the first part's.
        """
        first = parts[0]
        return replace(
            first,
            case_ids=tuple(case_id for part in parts for case_id in part.case_ids),
            kinds=tuple(sorted({kind for part in parts for kind in part.kinds})),
            dropped=tuple(one for part in parts for one in part.dropped),
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in _BY_REQUEST
            },
            **{
                table: {
                    name: np.concatenate([getattr(part, table)[name] for part in parts])
                    for name in getattr(first, table)
                }
                for table in _BY_PARAMETER
            },
        )

    def parameters(self, scope: Scope) -> list[str]:
        """Names of the parameters that a scope adds up."""
        if scope not in SCOPES:
            raise ScoringError(f"scope {scope!r}: expected one of {', '.join(SCOPES)}")
        wanted = {
            "mlp_all": lambda name: True,
            "mlp_weights": lambda name: name.endswith(".weight"),
            "edited_only": lambda name: name == f"{self.edited}.weight",
        }[scope]
        return [name for name in self.dot if wanted(name)]

    def per_request(self, scope: Scope = "mlp_all") -> Float[np.ndarray, "request layer"]:
        """φ_l(i): inner products summed over the scope's parameters, not over requests."""
        return np.sum([self.dot[name] for name in self.parameters(scope)], axis=0)

    def total(self, scope: Scope = "mlp_all") -> Float[np.ndarray, " layer"]:
        """S_l = Σ_i φ_l(i)."""
        return self.per_request(scope).sum(0)


@dataclass(frozen=True)
class LayerRanking:
    """A selector's choice and all it rests on; `int(ranking)` is the layer."""

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
    positive_share: tuple[float, ...] = ()  # share of requests whose score is positive, per layer
    requests: int = 0
    known: int = 0
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()  # what a reader must know before using the layer
    provenance: dict[str, Any] = field(default_factory=dict)

    def __int__(self) -> int:
        return self.layer

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
            data = json.loads(text)
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
