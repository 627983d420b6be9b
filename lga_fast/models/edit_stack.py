"""Edits in effect on a model: applying them, undoing them, and refusing those of other weights.

An edit belongs to the weights it was solved on. A model that already carries edits has other
weights, yet the next edit of a sequence may have been solved before them or after. So a model
remembers its fingerprint before and after each edit in effect, and takes an edit that was solved

- on the weights as they are now, or
- on the weights as they were before one of the edits in effect, provided that nothing but those
  edits has changed them since: the fingerprints form an unbroken chain up to now.

A fingerprint samples 64 values of each parameter, so two states of a model may share one; then an
edit may be taken that should have been refused, never the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import ops
from lga_fast.errors import EditError
from lga_fast.models.edit_target import find_weights
from lga_fast.models.structure import ModelStructure
from lga_fast.undo import finish, undone
from lga_fast.weight_edit import LowRank, WeightEdit

_CHUNK = 1 << 20  # elements of a weight compared at once: 8 MiB in float64


@dataclass(frozen=True)
class Applied:
    """How much of an edit its weights hold.

    `rounding` is `‖applied − intended‖ / ‖intended‖` per parameter (Frobenius norms): weights in
    bfloat16 keep only part of a small change. 1: the change was rounded away; 0: also for a change
    of zeros.
    """

    rounding: dict[str, float]


@dataclass(eq=False)
class ActiveEdit:
    """An edit in effect, or about to be."""

    edit: WeightEdit
    before: str  # the model's fingerprint without it
    after: str = ""  # and with it
    saved: dict[str, Tensor] = field(default_factory=dict)  # weights to put back, by name
    permanent: bool = False


class EditStack:
    """The edits in effect on one model, oldest first."""

    def __init__(self) -> None:
        self.active: list[ActiveEdit] = []

    @contextmanager
    def edited(self, model: ModelStructure, edit: WeightEdit, force: bool) -> Iterator[Applied]:
        """See `EditableModel.edited`."""
        active = self._checked(model, edit, force)
        with undone((model.hf,), partial(self._undo, model, active)):
            yield self._apply(model, edit, active)

    def apply(self, model: ModelStructure, edit: WeightEdit, force: bool) -> Applied:
        """See `EditableModel.apply`."""
        finish(model.hf.modules())
        if any(not active.permanent for active in self.active):
            raise EditError(
                "apply: expected a model outside `with model.edited(...)`, whose end would put the "
                "weights back. Nest another `edited` instead, or apply after the `with`."
            )
        active = self._checked(model, edit, force)
        with undone((model.hf,), partial(self._undo, model, active)):
            applied = self._apply(model, edit, active)
            active.permanent = True
        return applied

    def carries(self, edit: WeightEdit) -> bool:
        """Whether an edit is in effect."""
        return any(active.edit.checksum == edit.checksum for active in self.active)

    def names(self) -> set[str]:
        """The weights that edits in effect change."""
        return {name for active in self.active for name in active.edit.deltas}

    def _checked(self, model: ModelStructure, edit: WeightEdit, force: bool) -> ActiveEdit:
        """A record of `edit`, which belongs on `model`; nothing is changed yet."""
        finish(model.hf.modules())
        self._check(model, edit)
        active = self._new_active(edit, model.fingerprint())
        if not force:
            self._refuse_foreign(model, edit, active.before)
            self._refuse_repeated(edit)
        return active

    def _check(self, model: ModelStructure, edit: WeightEdit) -> None:
        find_weights(model, edit)

    def _new_active(self, edit: WeightEdit, before: str) -> ActiveEdit:
        return ActiveEdit(edit, before)

    def _refuse_foreign(self, model: ModelStructure, edit: WeightEdit, now: str) -> None:
        known = [now]
        for active in reversed(self.active):
            if active.after != known[-1]:
                break  # changed by other means after this edit: earlier states tell nothing
            known.append(active.before)
        if edit.model_fingerprint in known:
            return
        earlier = [f for f in dict.fromkeys(known) if f != now]
        had = f" (before the edits in effect: {', '.join(earlier)})" if earlier else ""
        raise EditError(
            f"{edit!r} was solved on other weights: expected the fingerprint of {model.name!r}, "
            f"{now}{had}, got {edit.model_fingerprint or 'none in its provenance'}. Load the model "
            "and dtype it was solved on, with the edits that it had then, or pass force=True."
        )

    def _refuse_repeated(self, edit: WeightEdit) -> None:
        if self.carries(edit):
            raise EditError(
                f"{edit!r} is in effect already; to add it a second time, pass force=True."
            )

    def _apply(self, model: ModelStructure, edit: WeightEdit, active: ActiveEdit) -> Applied:
        self._begin(model, edit, active)
        transposed = model.family.orientation == "in_out"
        rounding = {}
        for name, delta in edit.deltas.items():
            with self._changing(model, active, name, delta) as weights:
                before, after = (w.T if transposed else w for w in weights)
                left, right = (x.to(after.device) for x in (delta.left, delta.right))
                ops.low_rank_update_(after, left, right)
                rounding[name] = _rounding_error(before, after, left, right)
                if not math.isfinite(rounding[name]):
                    raise EditError(
                        f"edit of {name}: expected finite weights, got numbers beyond "
                        f"{after.dtype} (or they were not finite before). The weights were put "
                        "back."
                    )
        active.after = model.fingerprint()
        return Applied(rounding)

    def _begin(self, model: ModelStructure, edit: WeightEdit, active: ActiveEdit) -> None:
        weights = find_weights(model, edit)
        active.saved = {name: weight.clone() for name, weight in weights.items()}
        self.active.append(active)  # before any weight changes, so that undoing finds it

    @contextmanager
    def _changing(
        self, model: ModelStructure, active: ActiveEdit, name: str, delta: LowRank
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A weight as it was and the one to change, both as they are stored."""
        yield active.saved[name], model.hf.get_parameter(name).detach()

    def _undo(self, model: ModelStructure, active: ActiveEdit) -> None:
        """Put back what `active` and all later edits changed, the latest first.

        Contexts that are left out of order thus end together: putting back an outer one alone
        would let the inner one restore edited weights when its turn comes.
        """
        if active.permanent:
            active.saved.clear()
            return
        while active in self.active:
            for name, weight in self.active[-1].saved.items():
                # detach() shares the version counter with the parameter, and the copy increments
                # it. Resetting the counter would be wrong: a graph taken inside the `with` would
                # match the counter of the next edit and silently use its weights.
                model.hf.get_parameter(name).detach().copy_(weight)
            self.active.pop()


def _rounding_error(
    before: Float[Tensor, "d_out d_in"],
    after: Float[Tensor, "d_out d_in"],
    left: Float[Tensor, "d_out rank"],
    right: Float[Tensor, "d_in rank"],
) -> float:
    """`‖(after − before) − left·rightᵀ‖ / ‖left·rightᵀ‖`, in float64, some rows at a time."""
    lost = size = torch.zeros((), dtype=torch.float64, device=before.device)
    rows = max(1, _CHUNK // before.shape[1])
    for old, new, part in zip(*(x.split(rows) for x in (before, after, left)), strict=True):
        intended = part.double() @ right.double().T
        lost = lost + (new.double() - old.double() - intended).square().sum()
        size = size + intended.square().sum()
    return float((lost / size if size else lost).sqrt())
