"""WikiData of KnowEdit: WikiData_counterfact, and WikiData_recent, which has no old answers.

An answer with several values or aliases, `[[alias, ...], ...]`, becomes a probe whose answer is the
first alias; all others are its aliases.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets import _easyedit
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits


def read(path: Path) -> LoadedEdits:
    """The edits of a WikiData file; raises `DataError` if it has neither form.

    Example:
        >>> read(Path("test_cf.json"))[0].target_new
        'Syria'
    """
    return load_edits_file(path, "wikidata", FORMS)


_NEEDS = fields("subject prompt target_new portability locality")
_OTHERS = fields("rephrase_prompt locality_prompt probes")
FORMS = (
    Form("counterfact", _NEEDS | {"ground_truth"}, _easyedit.request, without=_OTHERS),
    Form("recent", _NEEDS, _easyedit.request, without=_OTHERS | {"ground_truth"}),
)
