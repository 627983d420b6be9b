"""MMLU: multiple-choice questions that show what an edit did to general ability. No edits.

Questions are read verbatim, white space included. Files of worked examples (`mmlu_shot`) have the
same form and are read by the same call.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets._fields import Record, note_edges
from lga_fast.datasets._forms import Form, fields, load_file
from lga_fast.datasets._report import Loaded
from lga_fast.records import MultipleChoice


def read(path: Path) -> Loaded[MultipleChoice]:
    """The questions of an MMLU file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("mmlu_1516.jsonl"))[0].answer
        0
    """
    return load_file(path, "mmlu", FORMS)


def _question(record: Record) -> MultipleChoice:
    choices, answer = record.texts("choices"), record.required("answer")
    if len(choices) < 2:
        raise record.fail("choices", "at least two choices", choices)
    for i, choice in enumerate(choices):
        if not choice.strip():
            raise record.fail(f"choices[{i}]", "text", choice)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise record.fail(
            "answer",
            f"the number of a choice, 0 to {len(choices) - 1}",
            answer,
            "Count the choices from 0; letters are not read.",
        )
    if len(set(choices)) < len(choices):
        record.note("repeated_choice", "choices")
    return MultipleChoice(
        case_id=record.case_id,
        question=note_edges(record, "question", record.text("question")),
        choices=tuple(choices),
        answer=answer,
        topic=record.text_or_none("subject") or "",
    )


FORMS = (Form("MMLU", needs=fields("question choices answer"), read=_question),)
