"""MzsRE (BMIKE-53, ReMaKE): ZsRE in pairs of languages; edits in English, questions in both.

A record has one object for each language, in the form of the 1037 records of ZsRE. The request is
the English one with its probes. What another language asks is in groups that end in its code:
'question_xx' and 'rephrase_xx' with that language's answer, and 'one_hop_xx', are portability;
'neighborhood_xx' is locality.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lga_fast.datasets import _easyedit, zsre
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest, Probe

_EDITED = "en"


def read(path: Path) -> LoadedEdits:
    """The edits of an MzsRE file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("mzsre_test_duplicate_ende.json"))[0].probes[-1].group
        'one_hop_de'
    """
    return load_edits_file(path, "mzsre", FORMS)


def _request(record: Record) -> EditRequest:
    edited = record.child(_EDITED)
    request = zsre.portability_1037(edited)
    edited.close(unused=zsre.UNUSED_1037)
    others = [name for name, raw in record.raw.items() if isinstance(raw, dict) and name != _EDITED]
    probes = [probe for language in others for probe in _asked_in(record, language)]
    return replace(request, probes=(*request.probes, *probes))


def _asked_in(record: Record, language: str) -> list[Probe]:
    inner = record.child(language)
    answer = "alt", inner.required("alt")
    probes: list[Probe] = []
    for group, name in (("question", "src"), ("rephrase", "rephrase")):
        prompt = name, inner.required(name)
        probes += _easyedit.probe(inner, "portability", f"{group}_{language}", prompt, answer)
    rest = [*_easyedit.neighborhood(inner, "loc", "loc_ans"), *_easyedit.one_hop(inner)]
    inner.close(unused=zsre.UNUSED_1037 | {"subject", "answers"})
    return probes + [replace(probe, group=f"{probe.group}_{language}") for probe in rest]


FORMS = (
    Form(
        "MzsRE",
        needs=frozenset({_EDITED}),
        read=_request,
        inside={_EDITED: fields("subject src alt rephrase loc loc_ans")},
    ),
)
