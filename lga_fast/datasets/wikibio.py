"""WikiBio of KnowEdit: a passage to be continued by a given sentence.

There are no old answers and no paraphrases. Concepts are in lower case and found where the prompt
names its topic ("a Wikipedia passage about ..."); many prompts end in a space, which is kept.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets import _easyedit
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest


def read(path: Path) -> LoadedEdits:
    """The edits of a WikiBio file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("wikibio-test-all.json"))[0].subject
        'john russell reynolds'
    """
    return load_edits_file(path, "wikibio", FORMS)


def _request(record: Record) -> EditRequest:
    return _easyedit.request(record, prompt="text", target="labels", subject="concept")


FORMS = (Form("KnowEdit", needs=fields("text labels concept"), read=_request),)
