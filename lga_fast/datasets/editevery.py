"""EditEverything (AnyEdit): long answers of several kinds, such as solutions, code and poems.

The requests are unstructured and have neither subjects nor probes; `category` is not read.
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
    """The edits of an EditEverything file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("editevery.json"))[0].kind
        'unstructured'
    """
    return load_edits_file(path, "editevery", FORMS)


def _request(record: Record) -> EditRequest:
    return replace(_easyedit.request(record, "question", "answer"), kind="unstructured")


FORMS = (
    Form(
        "EditEverything",
        needs=fields("id question answer category"),
        read=_request,
        unused=fields("category"),
        case_id="id",
    ),
)
