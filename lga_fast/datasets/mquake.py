"""MQuAKE (CF, CF-3k, T): edits whose consequences are asked for by multi-hop questions.

A record has one or several edits (`requested_rewrite` is a list), each of which is a request. Its
question form is a rephrase probe. The record's three multi-hop questions are portability probes of
group 'multi_hop' if it has one edit only: with several edits their answer follows from all of them
together, which no request alone can be measured by. `loc` and `loc_ans`, which EasyEdit's copy
adds, are a locality probe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lga_fast.datasets import _easyedit, _rewrite
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest, Probe


def read(path: Path) -> LoadedEdits:
    """The edits of an MQuAKE file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("MQuAKE-T.json"))[0].probes[-1].group
        'multi_hop'
    """
    return load_edits_file(path, "mquake", FORMS)


def _requests(record: Record) -> list[EditRequest]:
    edits = record.children("requested_rewrite")
    probes = [*_hops(record, len(edits)), *_locality(record)]
    requests = []
    for inner, case_id in zip(edits, _rewrite.case_ids(record, len(edits)), strict=True):
        rewrite = _rewrite.of(record, inner)
        question = _easyedit.rephrases(inner, "question", rewrite.target_new, rewrite.subject)
        inner.close(unused=("relation_id",))
        requests.append(rewrite.request(case_id, [*question, *probes]))
    return requests


def _hops(record: Record, edits: int) -> list[Probe]:
    questions, answers = record.texts("questions"), _answers(record)
    if edits == 1:
        return [
            one
            for i, text in enumerate(questions)
            for one in _easyedit.probe(
                record, "portability", "multi_hop", (f"questions[{i}]", text), answers
            )
        ]
    for i in range(len(questions)):
        record.note("needs_several_edits", f"questions[{i}]")
    return []


def _answers(record: Record) -> tuple[str, list[Any]]:
    """The new answer and its aliases."""
    aliases = record.texts("new_answer_alias") if record.has("new_answer_alias") else []
    return "new_answer", [record.text("new_answer"), *aliases]


def _locality(record: Record) -> list[Probe]:
    return _easyedit.neighborhood(record, "loc", "loc_ans") if record.has("loc") else []


FORMS = (
    Form(
        "MQuAKE",
        needs=fields("requested_rewrite questions new_answer single_hops new_single_hops"),
        read=_requests,
        unused=fields("answer answer_alias answer_extended single_hops new_single_hops orig"),
    ),
)
