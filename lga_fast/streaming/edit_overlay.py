"""Edits in effect on a model whose weights are not in memory: added whenever a block is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from lga_fast import ops
from lga_fast.models import fingerprint
from lga_fast.models.edit_stack import ActiveEdit, EditStack, find_matrices
from lga_fast.weight_edit import LowRank, WeightEdit

if TYPE_CHECKING:
    from lga_fast.models.editable import EditableModel
    from lga_fast.streaming.streamed_model import StreamedModel


@dataclass(eq=False)
class _Overlay(ActiveEdit):
    """An edit in effect, and what a fingerprint sees of the weights under it."""

    deltas: dict[str, LowRank] = field(default_factory=dict)
    sampled: dict[str, Tensor] = field(default_factory=dict)


class Overlays(EditStack):
    """The edits in effect on a streamed model, oldest first: the bits of resident weights."""

    steps: list[_Overlay]

    def __init__(self, model: StreamedModel) -> None:
        super().__init__()
        self._model = model

    def add(self, name: str, weight: Tensor) -> None:
        """Add the edits in effect to a weight just read, as it is stored."""
        turned = self._model.family.orientation == "in_out"
        for step in self.steps:
            if delta := step.deltas.get(name):
                left, right = (x.to(weight.device) for x in (delta.left, delta.right))
                ops.low_rank_update_(weight.T if turned else weight, left, right)

    def sampled(self, name: str) -> Tensor | None:
        """Of a weight under edits, the values that a fingerprint takes; None: no edit is on it."""
        found = [step.sampled[name] for step in self.steps if name in step.sampled]
        return found[-1] if found else None

    def in_effect(self) -> tuple[ActiveEdit, ...]:
        """What tells one set of edits in effect from another, also from those that have ended."""
        return tuple(self.steps)  # not their ids, which a later edit may get again

    def _check(self, model: EditableModel, edit: WeightEdit) -> None:
        find_matrices(model, edit)

    def _made(self, checksum: str, before: str) -> _Overlay:
        return _Overlay(checksum, before)

    def _begin(self, model: EditableModel, edit: WeightEdit, step: ActiveEdit) -> None:
        self.steps.append(step)  # type: ignore[arg-type]

    @contextmanager
    def _changing(
        self, model: EditableModel, step: ActiveEdit, name: str, delta: LowRank
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Both of a block that is read for it, with the edits so far."""
        assert isinstance(step, _Overlay)
        place = next(p for p in model.matrices() if model.weight_name(*p) == name)
        with self._model.loaded(place[0]):
            weight = model.matrix(*place).weight.detach()
            yield weight.clone(), weight
            step.sampled[name] = fingerprint.sampled(weight, fingerprint.SAMPLED).clone()
        step.deltas[name] = delta
