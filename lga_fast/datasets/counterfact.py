"""CounterFact: EasyEdit's flat records, and ROME's own with `{}` in the prompt.

In ROME's form `{}` is where the subject goes; other braces are text, and nothing is unescaped. Its
neighbourhood prompts are about other subjects for which the old answer is right, so it is theirs.
Attribute and generation prompts are not read: EasyEdit's metrics do not use them.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets import _easyedit, _rewrite
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest


def read(path: Path) -> LoadedEdits:
    """The edits of a CounterFact file; raises `DataError` if it has neither form.

    Example:
        >>> read(Path("counterfact-val.json"))[0].subject
        'BBC One'
    """
    return load_edits_file(path, "counterfact", FORMS)


def _flat(record: Record) -> EditRequest:
    probes = _easyedit.neighborhood(record, "locality_prompt", "locality_ground_truth")
    return _easyedit.request(record, probes=probes + _easyedit.one_hop(record))


def _rome(record: Record) -> EditRequest:
    rewrite = _rewrite.rewrite(record)
    probes = _easyedit.rephrases(record, "paraphrase_prompts", rewrite.target_new, rewrite.subject)
    probes += _rewrite.neighbors(record, rewrite)
    return rewrite.request(record.case_id, [*probes, *_easyedit.one_hop(record)])


ROME = Form(
    "ROME",
    needs=fields("requested_rewrite paraphrase_prompts neighborhood_prompts"),
    read=_rome,
    unused=fields("pararel_idx attribute_prompts generation_prompts"),
)
FORMS = (
    Form(
        "EasyEdit",
        needs=fields("prompt target_new subject locality_prompt locality_ground_truth"),
        read=_flat,
    ),
    ROME,
)
