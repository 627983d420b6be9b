"""What a scoring pass gives: inner products of gradients, by request, layer and parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from lga_fast.errors import Dropped, ScoringError
from lga_fast.records import EditKind

Scope = Literal["mlp_all", "mlp_weights", "edited_only"]
SCOPES: tuple[Scope, ...] = ("mlp_all", "mlp_weights", "edited_only")

# The fields of `LayerScores` whose first axis is the request: arrays, and arrays by parameter.
_BY_REQUEST = ("loss_old", "loss_new", "known", "says_new")
_BY_PARAMETER = ("dot", "norm2_old", "norm2_new", "abs_new", "per_expert", "at_subject")


@dataclass(frozen=True, repr=False)
class LayerScores:
    """Inner products of old- and new-answer gradients, per request, layer and parameter.

    `dot[name]` is `<∇ℓ(Q∪K), ∇ℓ(Q∪K')>` (arXiv 2602.20207 §5.1) for a parameter such as
    `down.weight`; `norm2_old` and `norm2_new` are the squared norms of its two sides. `abs_new`
    are the sums over a new-answer gradient's absolute values, of weights only and only where they
    were asked for. What needs an old answer is NaN in a pass without old answers.

    `at_subject` has, where it was asked for, the norm of the new answer's gradient of the edited
    matrix's output at the subject's last token: `gradient`. Of an edit that changes this output by
    a step of length 1 against the gradient, it has to first order what it does to the first probes:
    `rephrase` [request layer 2], the part of the new answer's loss after a paraphrase that it
    removes, and `locality` [request layer 4], the rise in nats of an unrelated answer's
    log-probability. All are NaN for requests without a subject, for layers whose matrix
    cannot be edited and where there is no probe.

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
    at_subject: dict[str, Float[np.ndarray, "request layer ..."]] = field(default_factory=dict)
    sizes: dict[str, Int[np.ndarray, " layer"]] = field(default_factory=dict)  # elements
    per_expert: dict[str, Float[np.ndarray, "request layer expert"]] = field(default_factory=dict)
    kinds: tuple[EditKind, ...] = ("factual",)  # that occur among the requests
    dropped: tuple[Dropped, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Numbers of requests, layers and parameters; no values."""
        layers = next(iter(self.dot.values())).shape[1] if self.dot else 0
        size = f"{len(self.case_ids)} requests, {layers} layers, {len(self.dot)} parameters"
        return f"LayerScores({size})"

    def _repr_html_(self) -> str:
        from lga_fast.reports.notebook import scores_html

        return scores_html(self)

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
