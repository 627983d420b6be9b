"""The one door for edit requests that are in memory, whatever holds them and in whatever form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from lga_fast.datasets import counterfact, jsonl
from lga_fast.datasets._columns import as_list
from lga_fast.datasets._files import Source, describe
from lga_fast.datasets._forms import Form, every_form, fitting, read_records
from lga_fast.datasets._report import LoadedEdits, Provenance
from lga_fast.errors import DataError, ScoringError
from lga_fast.records import Dropped, EditRequest


def easyedit_requests(items: Any) -> LoadedEdits:
    """Edit requests from whatever holds them in memory, checked as those of a file are.

    Args:
        items: a list, a dict of columns (`prompts=[...], subject=[...], target_new=[...]`, as
            EasyEdit's editors take them), or a dataset object with a length and items by number.
            Its items are `EditRequest`s, dicts in any of EasyEdit's spellings, or records of any
            data set that lga_fast reads (ROME's `requested_rewrite`, ZsRE's `src` and `alt`, ...).
            A `LoadedEdits` is returned as it is.

    A dict has `prompt` and `target_new`, and may have `subject`, `ground_truth`, `case_id`,
    `rephrase_prompt`, `locality` and `portability` as `{group: {"prompt": ..., "ground_truth":
    ...}}`, or `locality_prompt` with `locality_ground_truth` and `portability_prompt` likewise. In
    a prompt without its subject, `{}` is where the subject goes. Repeated case ids get a suffix.
    The list's `report` has all that was odd.

    Raises:
        DataError: an item, or one of its fields, has not the form it should have.

    Example:
        >>> fact = {"prompt": "{} lies in", "subject": "Rome", "target_new": "France"}
        >>> easyedit_requests([fact])[0].subject_span
        (0, 4)
    """
    if isinstance(items, LoadedEdits):
        return items
    records = None if isinstance(items, EditRequest) else as_list(items)
    if records is None:
        raise DataError(f"expected a list of requests, got {describe(items)}. Put it into a list.")
    raws = [_raw(f"requests: record {index}", item) for index, item in enumerate(records)]
    forms = cache(every_form)  # imports all data sets: only if a record asks for it
    requests, report = read_records(Source("requests", raws), lambda raw: _form(raw, forms))
    for index, request in enumerate(requests):
        if not isinstance(request, EditRequest):
            kind = type(request).__name__
            raise DataError(f"requests: record {index}: expected an edit, got a {kind} record")
    provenance = Provenance("requests", "in memory", None, jsonl.checksum(requests))
    return LoadedEdits(requests, report, provenance)


def _raw(place: str, item: Any) -> Any:
    """The item as a dict of named fields, if it can be one."""
    if isinstance(item, EditRequest):
        if not isinstance(item.probes, tuple | list):
            raise DataError(
                f"{place} (case_id {item.case_id!r}), field 'probes': expected a "
                f"tuple of Probes, got {describe(item.probes)}. Write () if there are none."
            )
        raw = jsonl.plain(item)
        if item.subject_span is None:
            del raw["subject_span"]  # nothing states it: the subject's first occurrence counts
        return raw
    return dict(item) if isinstance(item, Mapping) else item


def _form(raw: Any, forms: Callable[[], list[tuple[str, Form[Any]]]]) -> Form[Any]:
    """The form to read a record in: EasyEdit's if it fits, else the closest of any data set's."""
    easyedit = jsonl.FORMS[0]
    if not isinstance(raw, dict) or easyedit.needs <= raw.keys():
        return easyedit
    # ROME's rewrite is a request without the prompts that its files have beside it, too
    otherwise = counterfact.ROME if "requested_rewrite" in raw else easyedit
    return next((form for _, form in fitting(raw, forms())), otherwise)


def about_prompts(requests: LoadedEdits) -> LoadedEdits:
    """The requests, each with its whole prompt as its subject."""
    texts = [request.prompt.rstrip() for request in requests]
    about = (
        replace(request, subject=text, subject_span=(0, len(text)))
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
