"""ROME's `requested_rewrite`, which CounterFact and PEAK share: prompt with `{}`, and subject."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lga_fast.datasets import _easyedit
from lga_fast.datasets._fields import Record, note_edges, note_subject_place
from lga_fast.datasets._templates import PLACE, filled
from lga_fast.records import AnswerLists, EditRequest, Probe


@dataclass(frozen=True)
class Rewrite:
    """One `requested_rewrite` with the subject filled in."""

    prompt: str
    subject: str
    subject_span: tuple[int, int]
    target_new: str
    target_old: str

    def request(
        self, case_id: str, probes: Iterable[Probe], answers: AnswerLists | None = None
    ) -> EditRequest:
        """The edit request of this rewrite."""
        return EditRequest(
            case_id=case_id,
            prompt=self.prompt,
            target_new=self.target_new,
            subject=self.subject,
            subject_span=self.subject_span,
            target_old=self.target_old,
            probes=tuple(probes),
            answers=answers,
        )


def neighbors(record: Record, rewrite: Rewrite) -> list[Probe]:
    """Probes from `neighborhood_prompts`, if there are any; their answer is the old one."""
    if not record.has("neighborhood_prompts"):
        return []
    old = "requested_rewrite.target_true", rewrite.target_old
    return [
        probe
        for i, prompt in enumerate(record.texts("neighborhood_prompts"))
        for probe in _easyedit.probe(
            record, "locality", "neighborhood", (f"neighborhood_prompts[{i}]", prompt), old
        )
    ]


def case_ids(record: Record, edits: int) -> list[str]:
    """An id for each edit of a record: its own, numbered if there are several."""
    if edits == 1:
        return [record.case_id]
    return [f"{record.case_id}/{number}" for number in range(1, edits + 1)]


def rewrite(record: Record) -> Rewrite:
    """The record's rewrite; raises `DataError` unless its prompt contains `{}` exactly once."""
    inner = record.child("requested_rewrite")
    one = of(record, inner)
    inner.close(unused=("relation_id",))
    return one


def of(record: Record, inner: Record) -> Rewrite:
    """The rewrite in `inner`, which may have more fields; raises as `rewrite` does."""
    template, subject = inner.text("prompt"), inner.text("subject")
    if subject != subject.strip():
        record.note("edge_whitespace", "requested_rewrite.subject")
        subject = subject.strip()
    if template.count(PLACE) != 1:
        raise inner.fail("prompt", "text with '{}' once, where the subject goes", template)
    prompt, span = filled(template, subject)
    note_edges(record, "requested_rewrite.prompt", prompt)
    note_subject_place(record, "requested_rewrite.subject", prompt, span)
    targets = []
    for name in ("target_new", "target_true"):
        target = inner.child(name)
        targets.append(note_edges(record, f"requested_rewrite.{name}", target.text("str")))
        target.close(unused=("id",))
    if targets[0] == targets[1]:
        record.note("target_is_old", "requested_rewrite.target_true")
    return Rewrite(prompt, subject, span, *targets)
