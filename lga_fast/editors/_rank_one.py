"""What ROME and R-ROME share: values, the direction u, and one rank-1 change per request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import provenance
from lga_fast.editors import _contexts, _cost_messages, _moments, _value_solver
from lga_fast.errors import EditError
from lga_fast.forward.clean_run import Site
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import LowRank, WeightEdit

Solve = Callable[[_value_solver.Value, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

_SITES: tuple[Site, ...] = ("mlp",)
_MIN_COSINE = 1e-3  # between key and u: below it the update explodes


class RankOne:
    """One editor at one layer of one model, ready to solve.

    Args:
        model: left as it was.
        layer: of the matrix that the family's `edited` names.
        name: of the editor.
        options: the editor's dataclass.
        update: the editor's formula: left and right factor from value, keys, outputs (first row:
            the bare prompt) and u.
    """

    def __init__(
        self, model: EditableModel, layer: int, name: str, options: Any, update: Solve
    ) -> None:
        self.model, self.layer, self.name, self.update = model, layer, name, update
        self.options = options
        self.how = _value_solver.Optimisation(
            steps=options.steps,
            weight_decay=options.weight_decay,
            lr=options.lr,
            kl_factor=options.kl_factor,
            clamp=options.clamp,
        )
        self.made = provenance.of(model)  # before anything is applied: of the original model
        self.contexts = _contexts.of(model, options)
        self.sites = _SITES
        self.parameter = model.weight_name(layer, model.family.edited)
        self.moment = None
        if options.mom2_adjustment:  # of the original model, also for requests that follow others
            self.moment = _moments.of(model, [layer], options)[layer]

    def solve_independent(
        self, requests: Sequence[EditRequest], values: Sequence[_value_solver.Value] | None = None
    ) -> list[WeightEdit]:
        """One edit for each request, of the model as it is; values: if they are there already."""
        found = values or self._values(requests)
        return [self._edit([request], [v]) for request, v in zip(requests, found, strict=True)]

    def solve_joint(self, requests: Sequence[EditRequest]) -> WeightEdit:
        """One edit for all: each request solved on the model that the ones before left."""
        values: list[_value_solver.Value] = []
        _cost_messages.say_sequence(self.model, len(requests))
        with ExitStack() as applied:
            for request in requests:
                if values:
                    now = {"model_fingerprint": self.model.fingerprint()}
                    so_far = WeightEdit({self.parameter: self._change(values[-1])}, now)
                    applied.enter_context(self.model.edited(so_far))
                values += self._values([request])
        return self._edit(requests, values)

    def _values(self, requests: Sequence[EditRequest]) -> list[_value_solver.Value]:
        return _value_solver.optimise(
            self.model, self.layer, requests, self.contexts, self.how, sites=self.sites
        )

    def _change(self, value: _value_solver.Value) -> LowRank:
        u = direction(value.keys, self.moment)
        left, right = self.update(value, value.keys, value.outputs, u)
        return LowRank(left.float().cpu().unsqueeze(1), right.float().cpu().unsqueeze(1))

    def _edit(
        self, requests: Sequence[EditRequest], values: Sequence[_value_solver.Value]
    ) -> WeightEdit:
        parts, notes = [], []
        for request, value in zip(requests, values, strict=True):
            parts.append(part := self._change(value))
            said = _value_solver.notes(request, value)
            key, u = value.keys[0], part.right[:, 0].to(value.keys)
            if abs(float(u @ key / key.norm())) < _MIN_COSINE:
                said.append(
                    "its key is nearly at right angles to u, so the change is very large: "
                    f"{float(part.left.norm()):.3g} against an output of "
                    f"{float(value.initial.norm()):.3g}"
                )
            if not all(torch.isfinite(x).all() for x in (part.left, part.right)):
                raise EditError(
                    f"request {request.case_id!r}: the update is not finite: its key is at right "
                    "angles to u, or the value overflowed"
                )
            notes += [f"request {request.case_id!r}: {note}" for note in said]
        whole = LowRank(
            torch.cat([part.left for part in parts], 1),
            torch.cat([part.right for part in parts], 1),
        )
        about = {
            "editor": self.name,
            "layer": self.layer,
            "config": asdict(self.options),
            "contexts": list(self.contexts),
            "requests": [asdict(request) for request in requests],
            "losses": [value.losses for value in values],
            "second_moment": self.moment and self.moment.report(),
            "notes": notes,
        }
        return WeightEdit({self.parameter: whole}, self.made | about)


def direction(
    keys: Float[Tensor, "row d_in"], moment: _moments.Moments | None = None
) -> Float[Tensor, " d_in"]:
    """The unit vector u along C⁻¹ k̄ (ROME), or along the mean key k̄ itself (EasyEdit)."""
    mean = keys.mean(0)
    if moment is not None:
        mean = moment.solve(mean.unsqueeze(0))[0].to(mean)
    return mean / mean.norm()
