"""Edits in effect on a model: applying them, undoing them, and whether they belong there.

An edit belongs to the weights it was solved on. A model that already carries edits has other
weights, yet the next edit of a sequence may have been solved before them or after. So a model
remembers its fingerprint before and after each edit in effect, and takes an edit that was solved

- on the weights as they are now, or
- on the weights as they were before one of the edits in effect, if those edits are all that has
  happened since: the fingerprints form an unbroken chain up to now.

A fingerprint looks at 64 values of each parameter, so two states of a model may share one; the
rule then takes more than it must, never less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lga_fast import ops
from lga_fast.errors import EditError
from lga_fast.models.module_lookup import whole_weight
from lga_fast.models.structure import ModelStructure
from lga_fast.models.tensor_utils import rounding_of
from lga_fast.weight_edit import LowRank, WeightEdit

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Applied:
    """What became of an edit in the weights that hold it.

    `rounding` is `‖applied − intended‖ / ‖intended‖` per parameter (Frobenius norms): weights in
    bfloat16 keep only part of a small change. 1 means that the change was rounded away; a change of
    zeros has 0.
    """

    rounding: dict[str, float]


@dataclass(eq=False)
class ActiveEdit:
    """One edit in effect, or about to be."""

    checksum: str
    before: str  # fingerprint of the model
    names: frozenset[str]  # of the weights that it changes
    after: str = ""
    saved: dict[str, Tensor] = field(default_factory=dict)  # weights to put back, by name
    kept: bool = False


class EditStack:
    """The edits in effect on one model, oldest first."""

    def __init__(self) -> None:
        self.steps: list[ActiveEdit] = []

    @contextmanager
    def edited(self, model: ModelStructure, edit: WeightEdit, force: bool) -> Iterator[Applied]:
        """See `EditableModel.edited`."""
        step = self._new_step(model, edit, force)
        try:
            yield self._apply(model, edit, step)
        finally:
            self._undo_surely(model, step)

    def apply(self, model: ModelStructure, edit: WeightEdit, force: bool) -> Applied:
        """See `EditableModel.apply`."""
        if any(not step.kept for step in self.steps):
            raise EditError(
                "apply: expected a model outside `with model.edited(...)`, whose end would put the "
                "weights back. Nest another `edited` instead, or apply after the `with`."
            )
        step = self._new_step(model, edit, force)
        try:
            applied = self._apply(model, edit, step)
            step.kept = True
        finally:
            if not step.kept:
                self._undo_surely(model, step)
        step.saved.clear()
        return applied

    def _new_step(self, model: ModelStructure, edit: WeightEdit, force: bool) -> ActiveEdit:
        self._check(model, edit)
        step = self._new(edit.checksum, model.fingerprint(), frozenset(edit.deltas))
        if not force:
            self._refuse_foreign(model, edit, step.before)
            self._refuse_repeated(edit)
        return step

    def _check(self, model: ModelStructure, edit: WeightEdit) -> None:
        find_weights(model, edit)

    def _new(self, checksum: str, before: str, names: frozenset[str]) -> ActiveEdit:
        return ActiveEdit(checksum, before, names)

    def _refuse_foreign(self, model: ModelStructure, edit: WeightEdit, now: str) -> None:
        known = [now]
        for step in reversed(self.steps):
            if step.after != known[-1]:
                break  # changed by other means after this edit: what was before says nothing
            known.append(step.before)
        if edit.model_fingerprint in known:
            return
        earlier = [f for f in dict.fromkeys(known) if f != now]
        had = f" (before the edits in effect: {', '.join(earlier)})" if earlier else ""
        made = edit.model_fingerprint or "none in its provenance"
        raise EditError(
            f"{edit!r} was solved on other weights: expected the fingerprint of {model.name!r}, "
            f"{now}{had}, got {made}. Load the model and dtype it was solved on, with the edits "
            "that it had then, or pass force=True."
        )

    def carries(self, edit: WeightEdit) -> bool:
        """Whether an edit is in effect."""
        return any(step.checksum == edit.checksum for step in self.steps)

    def names(self) -> set[str]:
        """Weights that the edits in effect change."""
        return {name for step in self.steps for name in step.names}

    def _refuse_repeated(self, edit: WeightEdit) -> None:
        if self.carries(edit):
            raise EditError(
                f"{edit!r} is in effect already; to add it a second time, pass force=True."
            )

    def _apply(self, model: ModelStructure, edit: WeightEdit, step: ActiveEdit) -> Applied:
        self._begin(model, edit, step)
        turned = model.family.orientation == "in_out"
        rounding = {}
        for name, delta in edit.deltas.items():
            with self._changing(model, step, name, delta) as weights:
                before, after = (w.T if turned else w for w in weights)
                left, right = (x.to(after.device) for x in (delta.left, delta.right))
                ops.low_rank_update_(after, left, right)
                rounding[name] = rounding_of(before, after, left, right)
                if not math.isfinite(rounding[name]):
                    raise EditError(
                        f"edit of {name}: expected finite weights, got numbers beyond "
                        f"{after.dtype} (or they were not finite before). The weights were put "
                        "back."
                    )
        step.after = model.fingerprint()
        return Applied(rounding)

    def _begin(self, model: ModelStructure, edit: WeightEdit, step: ActiveEdit) -> None:
        weights = find_weights(model, edit)
        step.saved = {name: weight.clone() for name, weight in weights.items()}
        self.steps.append(step)  # before any weight changes, so that undoing finds it

    @contextmanager
    def _changing(
        self, model: ModelStructure, step: ActiveEdit, name: str, delta: LowRank
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A weight as it was and the one to change, both as they are stored."""
        yield step.saved[name], model.hf.get_parameter(name).detach()

    def _undo_surely(self, model: ModelStructure, step: ActiveEdit) -> None:
        try:
            self._undo(model, step)
        except KeyboardInterrupt:
            self._undo(model, step)  # does again what was done, and the rest
            raise

    def _undo(self, model: ModelStructure, step: ActiveEdit) -> None:
        """Put back what `step` and all later ones changed, the latest first.

        Contexts that are left out of order thus end together: putting back an outer one alone
        would let the inner one restore edited weights when its turn comes.
        """
        while step in self.steps:
            for name, bits in self.steps[-1].saved.items():
                # detach() shares the version counter with the parameter, and the copy counts it up.
                # Setting the counter back would be wrong: a graph taken inside the `with` would
                # match the counter of the next edit and use its weights in silence.
                model.hf.get_parameter(name).detach().copy_(bits)
            self.steps.pop()


def find_weights(model: ModelStructure, edit: WeightEdit) -> dict[str, Tensor]:
    """The weights that `edit` would change, detached, as they are stored.

    Raises:
        EditError: as of `find_matrices`, or a weight is not in memory.
    """
    found = {}
    for name, module in find_matrices(model, edit).items():
        found[name] = _plain(name, module).detach()
        if found[name].is_meta:
            raise EditError(
                f"edit of {name}: expected a weight in memory, got one on 'meta' (offloaded)"
            )
    return found


def find_matrices(model: ModelStructure, edit: WeightEdit) -> dict[str, nn.Module]:
    """The modules whose weights `edit` would change, by those weights' names.

    Raises:
        EditError: the model has no such matrix, it has another shape, or it cannot be changed.
    """
    places = {model.weight_name(*place): place for place in model.matrices()}
    found = {}
    for name, delta in edit.deltas.items():
        if name not in places:
            known = [n for n, (_, role) in places.items() if role == model.family.edited]
            raise EditError(
                f"edit of {name}: expected an MLP matrix of {model.name!r}, such as "
                f"{' ... '.join(known[:: max(1, len(known) - 1)]) or '(none: experts are fused)'}. "
                "Was the edit made for another kind of model?"
            )
        if delta.shape != model.shape(*places[name]):
            raise EditError(
                f"edit of {name}: expected (d_out, d_in) {model.shape(*places[name])} as in "
                f"{model.name!r}, got {delta.shape}"
            )
        found[name] = model.matrix(*places[name])
        _plain(name, found[name])
    return found


def check_editable(model: ModelStructure, layers: Iterable[int]) -> None:
    """Refuse layers whose edited matrix is not one of plain numbers, before any work is done.

    Raises:
        EditError: the weight is quantised or computed, or experts are fused.
    """
    for layer in layers:
        name = model.weight_name(layer, model.family.edited)
        _plain(name, model.matrix(layer, model.family.edited))


def _plain(name: str, module: nn.Module) -> nn.Parameter:
    weight = whole_weight(module)
    if weight is None or weight.dtype not in _FLOATS:
        found = dict(module.named_parameters(recurse=False)).get("weight")
        got = "a weight that is computed"
        if found is not None:
            got = f"a {type(found).__name__} of {found.dtype}"
        raise EditError(
            f"edit of {name}: expected a parameter of {', '.join(map(str, _FLOATS))}, got {got} in "
            f"a {type(module).__name__}. Load the model without quantisation, or a copy that its "
            "dequantize() gave; layers can be scored and selected as it is"
        )
    return weight
