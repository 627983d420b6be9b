"""Edit requests that are in memory already, in EasyEdit's form or as `EditRequest`s."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from lga_fast.datasets import jsonl
from lga_fast.datasets._fields import CaseIds
from lga_fast.datasets._files import Source, describe
from lga_fast.datasets._forms import read_record
from lga_fast.datasets._report import Finding, LoadedEdits, LoadReport, Provenance
from lga_fast.errors import DataError, ScoringError
from lga_fast.records import Dropped, EditRequest


def easyedit_requests(items: Iterable[EditRequest | Mapping[str, Any]]) -> LoadedEdits:
    """Edit requests from dicts in EasyEdit's request form, edit requests, or a mixture of both.

    A dict has `prompt` and `target_new`, and may have `subject, ground_truth, rephrase_prompt`,
    `locality` and `portability` as `{group: {"prompt": ..., "ground_truth": ...}}`, and `case_id`.
    Repeated case ids get a suffix, which the report lists. A `LoadedEdits` is returned as it is.
    Raises `DataError` for anything else.

    Example:
        >>> fact = {"prompt": "Rome lies in", "subject": "Rome", "target_new": "France"}
        >>> easyedit_requests([fact])[0].subject_span
        (0, 4)
    """
    if isinstance(items, LoadedEdits):
        return items
    if isinstance(items, str | Mapping | EditRequest) or not isinstance(items, Iterable):
        raise DataError(f"expected a list of requests, got {describe(items)}. Put it into a list.")
    source = Source("requests", list(items))
    report, ids = LoadReport(len(source.records)), CaseIds()
    requests = []
    for index, item in enumerate(source.records):
        if not isinstance(item, EditRequest):
            raw = dict(item) if isinstance(item, Mapping) else item
            requests.append(read_record(source, index, raw, jsonl.FORMS[0], ids, report))
            continue
        case_id = ids.take(item.case_id, index)
        if case_id != item.case_id:
            report.findings.append(
                Finding("duplicate_case_id", index, case_id, f"was {item.case_id}")
            )
            item = dataclasses.replace(item, case_id=case_id)
        requests.append(item)
    provenance = Provenance("requests", "in memory", None, jsonl.checksum(requests))
    return LoadedEdits(requests, report, provenance)


def about_prompts(requests: LoadedEdits) -> LoadedEdits:
    """The requests, each with its whole prompt as its subject."""
    texts = [request.prompt.rstrip() for request in requests]
    about = (
        dataclasses.replace(request, subject=text, subject_span=(0, len(text)))
        for request, text in zip(requests, texts, strict=True)
    )
    return LoadedEdits(about, requests.report, requests.provenance)


def with_subject(
    requests: LoadedEdits, needed_by: str
) -> tuple[list[EditRequest], tuple[Dropped, ...]]:
    """Those requests whose subject is in their prompt, and the others as dropped.

    Raises:
        ScoringError: there are none; `needed_by` names what needs them.
    """
    usable = [request for request in requests if request.subject_span is not None]
    if not usable:
        raise ScoringError(
            f"{needed_by}: none of {len(requests)} requests has its subject in its prompt"
        )
    return usable, tuple(
        Dropped(request.case_id, "its subject is not in its prompt")
        for request in requests
        if request.subject_span is None
    )
