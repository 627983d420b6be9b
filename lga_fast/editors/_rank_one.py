"""What ROME and R-ROME share: values, the direction u, and one rank-1 change per request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import provenance
from lga_fast.editors import _contexts, _cost_messages, _moment_sources, _value_solver
from lga_fast.editors._layer_editor import LayerEditor
from lga_fast.editors._moments import Moments
from lga_fast.editors._value_problem import Value
from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import LowRank, WeightEdit

Held = Callable[[Float[Tensor, "row d"]], Float[Tensor, " d"]]

_MIN_COSINE = 1e-3  # between key and u: below it the update explodes


class RankOneSolver:
    """ROME or R-ROME on one model at one layer.

    Args:
        model: left as it was.
        layer: of the matrix that the family's `edited` names.
        editor: its options.
        held: of keys and of outputs, the one for which the new value is written; the first row is
            the bare prompt's.
        weigh_keys: whether u is along C⁻¹ k̄ instead of k̄.
    """

    def __init__(
        self,
        model: EditableModel,
        layer: int,
        editor: LayerEditor,
        held: Held,
        weigh_keys: bool,
    ) -> None:
        self.model, self.layer, self.editor, self.held = model, layer, editor, held
        self.name = type(editor).__module__.rpartition(".")[2]
        self.optimisation, self.sites = editor.optimisation(), editor.sites_in(model)
        self.provenance = provenance.of(model)  # of the original model, before anything is applied
        self.contexts = _contexts.of(model, editor)
        self.parameter = model.weight_name(layer, model.family.edited)
        self.moment = None
        if weigh_keys:  # of the original model, also for requests that follow others
            self.moment = _moment_sources.of(model, [layer], editor)[layer]

    def solve_independent(
        self, requests: Sequence[EditRequest], values: Sequence[Value] | None = None
    ) -> list[WeightEdit]:
        """One edit per request, independent of all others; `values` skips their optimisation."""
        values = values or self._values(requests)
        return [self._edit([request], [v]) for request, v in zip(requests, values, strict=True)]

    def solve_joint(self, requests: Sequence[EditRequest]) -> WeightEdit:
        """One edit for all: each request is solved on the model that the ones before left."""
        values: list[Value] = []
        if self.model.streamed and len(requests) > 1:
            _cost_messages.log_sequence(len(requests))
        with ExitStack() as applied:
            for request in requests:
                if values:
                    fingerprint = {"model_fingerprint": self.model.fingerprint()}
                    so_far = WeightEdit({self.parameter: self._delta(values[-1])}, fingerprint)
                    applied.enter_context(self.model.edited(so_far))
                values += self._values([request])
        return self._edit(requests, values)

    def written(self, keys: Float[Tensor, "request context d_in"]) -> Float[Tensor, " request"]:
        """k₀·u of the bare prompt's key in units of the held one's."""
        us = [direction(rows, self.moment) for rows in keys]
        return torch.stack([(k[0] @ u) / (self.held(k) @ u) for k, u in zip(keys, us, strict=True)])

    def _values(self, requests: Sequence[EditRequest]) -> list[Value]:
        return _value_solver.optimise(
            self.model, self.layer, requests, self.contexts, self.optimisation, sites=self.sites
        )

    def _delta(self, value: Value) -> LowRank:
        u = direction(value.keys, self.moment)
        left, right = update(value, u, self.held)
        return LowRank(left.float().cpu().unsqueeze(1), right.float().cpu().unsqueeze(1))

    def _edit(self, requests: Sequence[EditRequest], values: Sequence[Value]) -> WeightEdit:
        deltas, notes = [], []
        for request, value in zip(requests, values, strict=True):
            delta = self._delta(value)
            if not all(torch.isfinite(x).all() for x in (delta.left, delta.right)):
                raise EditError(
                    f"request {request.case_id!r}: the update is not finite: its key is at right "
                    "angles to u, or the value overflowed"
                )
            deltas.append(delta)
            about = _value_solver.notes(request, value, self.layer) + _notes(value, delta)
            notes += [f"request {request.case_id!r}: {note}" for note in about]
        whole = LowRank(
            torch.cat([delta.left for delta in deltas], 1),
            torch.cat([delta.right for delta in deltas], 1),
        )
        provenance = {
            "editor": self.name,
            "layer": self.layer,
            "config": asdict(self.editor),
            "contexts": list(self.contexts),
            "requests": [asdict(request) for request in requests],
            "losses": [value.losses for value in values],
            "second_moment": self.moment and self.moment.report(),
            "notes": notes,
        }
        return WeightEdit({self.parameter: whole}, self.provenance | provenance)


def update(
    value: Value, u: Float[Tensor, " d_in"], held: Held
) -> tuple[Float[Tensor, " d_out"], Float[Tensor, " d_in"]]:
    """Factors r = (v* - o) / (k·u) and u of ΔW, for the held key k and output o.

    ROME's, of the bare prompt, is arXiv 2202.05262, eq. 2.
    """
    return (value.initial + value.delta - held(value.outputs)) / (held(value.keys) @ u), u


def _notes(value: Value, delta: LowRank) -> list[str]:
    """What the user should know of a change."""
    key, u = value.keys[0], delta.right[:, 0].to(value.keys)
    if abs(float(u @ key / key.norm())) >= _MIN_COSINE:
        return []
    return [
        "its key is nearly at right angles to u, so the change is very large: "
        f"{float(delta.left.norm()):.3g} against an output of {float(value.initial.norm()):.3g}"
    ]


def direction(
    keys: Float[Tensor, "row d_in"], moment: Moments | None = None
) -> Float[Tensor, " d_in"]:
    """The unit vector u along C⁻¹ k̄ (ROME), or along the mean key k̄ itself (EasyEdit)."""
    mean = keys.mean(0)
    if moment is not None:
        mean = moment.solve(mean.unsqueeze(0))[0].to(mean)
    return mean / mean.norm()
