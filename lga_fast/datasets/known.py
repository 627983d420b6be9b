"""Known facts of ROME, for causal tracing: prompts that a model should complete. No edits.

`prediction` is what GPT-2 XL once answered. It is not read, nor is the template, which lacks words
of the prompt in many records.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets._fields import Record, note_edges
from lga_fast.datasets._forms import Form, fields, load_file
from lga_fast.datasets._report import Loaded
from lga_fast.datasets._templates import placed_subject
from lga_fast.records import KnownFact


def read(path: Path) -> Loaded[KnownFact]:
    """The facts of a known-facts file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("known_1000.json"))[0].attribute
        'Antarctica'
    """
    return load_file(path, "known", FORMS)


def _fact(record: Record) -> KnownFact:
    prompt = note_edges(record, "prompt", record.text("prompt"))
    record.text("subject")  # tracing corrupts the subject: a record without one is useless
    prompt, subject, span = placed_subject(record, "prompt", prompt, "subject")
    attribute = note_edges(record, "attribute", record.text("attribute"))
    return KnownFact(record.case_id, prompt, attribute, subject or "", span)


FORMS = (
    Form(
        "known facts",
        needs=fields("subject attribute prompt"),
        read=_fact,
        unused=fields("template prediction relation_id"),
        case_id="known_id",
    ),
)
