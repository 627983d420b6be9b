"""Locality, also called specificity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lga_fast.metrics import _probes
from lga_fast.metrics._cases import Values
from lga_fast.metrics._scoring import Answered, Question
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Metric:
    """Do other facts stay: share of answer places where the prediction is as before the edit.

    The probe's answer says where to look and is fed to the model; whether the prediction is right
    does not matter. Mean over a group's prompts, then over groups.
    """

    unit: ClassVar[str] = "share of answer places"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("locality",)

    def questions(self, request: EditRequest) -> list[Question]:
        """The locality probes."""
        return [Question(p.prompt, p.answer) for p in _probes.of_kind(request, "locality")]

    def measure(
        self, request: EditRequest, before: Sequence[Answered], after: Sequence[Answered]
    ) -> Values:
        """`locality`, and `locality/GROUP` for each group."""
        same = [new.agreement(old) for old, new in zip(before, after, strict=True)]
        return _probes.by_group("locality", _probes.of_kind(request, "locality"), same)
