"""Edits in effect on a model whose weights are not in memory: added each time a block is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from lga_fast import ops
from lga_fast.models import fingerprint
from lga_fast.models.edit_stack import ActiveEdit, EditStack
from lga_fast.models.edit_target import find_matrices
from lga_fast.models.structure import ModelStructure
from lga_fast.weight_edit import LowRank, WeightEdit


@dataclass(eq=False)
class _Overlay(ActiveEdit):
    """An edit in effect, and the fingerprint samples of the weights under it."""

    deltas: dict[str, LowRank] = field(default_factory=dict)
    sampled: dict[str, Tensor] = field(default_factory=dict)


class Overlays(EditStack):
    """The edits in effect on a streamed model, oldest first; same bits as in resident weights.

    Args:
        orientation: of the edited weights; see `ModelFamily`.
        loaded: a block's weights, edits included, are in memory inside `loaded(layer)`.
    """

    active: list[_Overlay]

    def __init__(
        self, orientation: str, loaded: Callable[[int], AbstractContextManager[None]]
    ) -> None:
        super().__init__()
        self._transposed, self._loaded = orientation == "in_out", loaded

    def add(self, name: str, weight: Tensor) -> None:
        """Add the edits in effect to a weight just read, in its stored orientation."""
        for active in self.active:
            if delta := active.deltas.get(name):
                left, right = (x.to(weight.device) for x in (delta.left, delta.right))
                ops.low_rank_update_(weight.T if self._transposed else weight, left, right)

    def sampled(self, name: str) -> Tensor | None:
        """Fingerprint samples of an edited weight; None: no edit changes it."""
        for active in reversed(self.active):
            if name in active.sampled:
                return active.sampled[name]
        return None

    def in_effect(self) -> tuple[ActiveEdit, ...]:
        """Identifies a set of edits in effect, also against sets that have ended."""
        return tuple(self.active)  # not their ids, which a later edit may reuse

    def _check(self, model: ModelStructure, edit: WeightEdit) -> None:
        find_matrices(model, edit)

    def _new_active(self, edit: WeightEdit, before: str) -> _Overlay:
        return _Overlay(edit, before)

    def _begin(self, model: ModelStructure, edit: WeightEdit, active: ActiveEdit) -> None:
        self.active.append(active)  # type: ignore[arg-type]

    @contextmanager
    def _changing(
        self, model: ModelStructure, active: ActiveEdit, name: str, delta: LowRank
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The weight before and after, of a block read for it, with the edits so far."""
        assert isinstance(active, _Overlay)
        layer, role = next(key for key in model.matrices() if model.weight_name(*key) == name)
        with self._loaded(layer):
            weight = model.matrix(layer, role).weight.detach()
            yield weight.clone(), weight
            active.sampled[name] = fingerprint.sampled(weight, fingerprint.SAMPLED).clone()
        active.deltas[name] = delta
