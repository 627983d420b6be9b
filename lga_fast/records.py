"""The data that flows through lga_fast; frozen dataclasses without behaviour of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lga_fast.errors import DataError

ProbeKind = Literal["rephrase", "locality", "portability"]


@dataclass(frozen=True)
class Probe:
    """A prompt that tells what an edit did elsewhere."""

    kind: ProbeKind
    group: str  # e.g. "Relation_Specificity"; equals `kind` where a data set names no groups
    prompt: str
    answer: str
    aliases: tuple[str, ...] = ()  # other right answers


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

    def __post_init__(self) -> None:
        """Refuse a request that no method could use."""
        for field in ("case_id", "prompt", "target_new"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value.strip():
                raise DataError(
                    f"edit request {self.case_id!r}: {field} must be a non-empty string, got {value!r}"
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
