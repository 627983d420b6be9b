"""ZsRE: KnowEdit's file, and the 1037 records with portability that EasyEdit published.

The 1037 form's locality questions keep their prefix "nq question: ". `pred` is what some other
model once answered, not the truth, and is not read.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets import _easyedit
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest


def read(path: Path) -> LoadedEdits:
    """The edits of a ZsRE file; raises `DataError` if it has neither form.

    Example:
        >>> read(Path("ZsRE-test-all.json"))[0].prompt
        'Which family does Epaspidoceras belong to?'
    """
    return load_edits_file(path, "zsre", FORMS)


def portability_1037(record: Record) -> EditRequest:
    """The edit of a record of the 1037."""
    probes = _easyedit.neighborhood(record, "loc", "loc_ans") + _easyedit.one_hop(record)
    return _easyedit.request(record, "src", "alt", "subject", "answers", "rephrase", probes)


UNUSED_1037 = fields("pred cond")
FORMS = (
    Form(
        "KnowEdit",
        needs=fields("subject prompt target_new rephrase_prompt locality"),
        read=_easyedit.request,
        unused=fields("cond"),
    ),
    Form(
        "1037",
        needs=fields("subject src alt rephrase loc loc_ans"),
        read=portability_1037,
        unused=UNUSED_1037,
    ),
)
