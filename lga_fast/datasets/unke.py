"""UnKE: unstructured editing, where the target is a long answer; no subjects, no old answers.

The paraphrased question is a rephrase probe with the same answer; each sub-question about a piece
of the answer is a portability probe of group 'sub_question'.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lga_fast.datasets import _easyedit
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest


def read(path: Path) -> LoadedEdits:
    """The edits of an UnKE file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("final_data_v2.json"))[0].prompt
        "What is George Rankin's occupation?"
    """
    return load_edits_file(path, "unke", FORMS)


def _request(record: Record) -> EditRequest:
    questions, replies = record.texts("sub_question"), record.texts("sub_answer")
    if len(questions) != len(replies):
        raise record.fail(
            "sub_answer",
            f"{len(questions)} answers, one for each sub_question",
            replies,
            f"There are {len(replies)}; add or remove some.",
        )
    probes = []
    for i, (question, reply) in enumerate(zip(questions, replies, strict=True)):
        prompt, answer = (f"sub_question[{i}]", question), (f"sub_answer[{i}]", reply)
        probes += _easyedit.probe(record, "portability", "sub_question", prompt, answer)
    request = _easyedit.request(
        record, "question", "answer", rephrase="para_question", probes=probes
    )
    return replace(request, kind="unstructured")


FORMS = (
    Form(
        "UnKE",
        needs=fields("question para_question answer sub_question sub_answer"),
        read=_request,
        case_id="id",
    ),
)
