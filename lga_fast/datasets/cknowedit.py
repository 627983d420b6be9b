"""CKnowEdit: errors in Chinese linguistics, facts and logic, with the right answers; no subjects.

`target_old` is what a model once answered wrongly. Probes are lists of `prompt` and `answer`, in
groups 'neighborhood' (locality) and 'one_hop' (portability). EasyEdit takes what follows a fixed
instruction, or the whole prompt, for the subject; the files themselves name none, so that editors
which need one refuse these requests.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets import jsonl
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits


def read(path: Path) -> LoadedEdits:
    """The edits of a CKnowEdit file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("Idiom.json")).provenance.form
        'CKnowEdit'
    """
    return load_edits_file(path, "cknowedit", FORMS)


FORMS = (
    Form(
        "CKnowEdit",
        needs=fields("prompt target_new target_old rephrase"),
        read=jsonl.FORMS[0].read,
        without=fields("locality_ground_truth probes"),
    ),
)
