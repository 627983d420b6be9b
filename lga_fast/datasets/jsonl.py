"""Edit requests as lga_fast writes them, one JSON object per line; also EasyEdit's request dicts.

Files of `write_jsonl` are read back exactly. In files written by hand `prompt` and `target_new`
suffice; without `subject_span` the subject's first occurrence counts. A .json list is read too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast, get_args

from lga_fast.datasets import _easyedit
from lga_fast.datasets._fields import Record, note_edges, own_id, subject_of
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits, LoadReport
from lga_fast.files import write_atomic
from lga_fast.records import AnswerLists, EditKind, EditRequest, Probe, ProbeKind


def read(path: Path) -> LoadedEdits:
    """The edits of a JSON Lines file or a JSON list; raises `DataError` if it has another form.

    Example:
        >>> read(Path("mine.jsonl")).report.count("subject_absent")
        0
    """
    return load_edits_file(path, "jsonl", FORMS)


def write_jsonl(requests: Iterable[EditRequest], path: str | Path) -> None:
    """Write `requests` to `path`, one per line; an interrupted write leaves the old file.

    Raises `DataError`, and writes nothing, if a request could not be read back: a probe with a
    blank prompt, or text that UTF-8 cannot hold. Repeated case ids are read back with a suffix.

    Example:
        >>> write_jsonl(edits, "mine.jsonl")
        >>> read(Path("mine.jsonl")) == edits
        True
    """
    rows = [_plain(request) for request in requests]
    for index, row in enumerate(rows):
        record = Record(row, f"request {index}", index, LoadReport(len(rows)))
        record.case_id = own_id(record, "case_id") or str(index)
        _request(record)
    write_atomic(Path(path).expanduser(), _lines(rows))


def dump(requests: Iterable[EditRequest]) -> str:
    """`requests` as JSON Lines, unchecked."""
    return _lines([_plain(request) for request in requests])


def checksum(requests: Iterable[EditRequest]) -> str:
    """SHA-256 of `requests` as JSON Lines."""
    return hashlib.sha256(dump(requests).encode(errors="surrogatepass")).hexdigest()


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _plain(request: EditRequest) -> dict[str, Any]:
    # vars, not asdict: asdict copies every value, which takes longer than writing the JSON
    row = dict(vars(request))
    row["probes"] = [
        {name: value for name, value in vars(probe).items() if name != "aliases" or value}
        for probe in request.probes
    ]
    answers = row.pop("answers")
    return row if answers is None else row | {"answers": dict(vars(answers))}


def _either(record: Record) -> EditRequest:
    # decided per record: a file written by hand may have probes in later records only
    easyedit = _EASYEDIT & record.raw.keys() and "probes" not in record.raw
    return _easyedit.request(record) if easyedit else _request(record)


def _request(record: Record) -> EditRequest:
    prompt = note_edges(record, "prompt", record.text("prompt"))
    subject = record.get("subject")
    if "subject_span" not in record.raw:
        subject, span = subject_of(record, "subject", prompt)
    else:
        span = record.get("subject_span")
        subject = None if subject is None else record.string("subject", subject)
        if span is not None:
            span = _span(record, span, prompt, subject)
    old = record.get("target_old")
    return EditRequest(
        case_id=record.case_id,
        prompt=prompt,
        target_new=note_edges(record, "target_new", record.text("target_new")),
        subject=subject,
        subject_span=span,
        target_old=None if old is None else record.string("target_old", old),
        probes=tuple(_probes(record)),
        answers=_answers(record.child("answers")) if record.has("answers") else None,
        kind=_kind(record),
    )


def _kind(record: Record) -> EditKind:
    kind = record.text("kind") if record.has("kind") else "factual"
    if kind not in get_args(EditKind):
        raise record.fail("kind", f"one of {', '.join(get_args(EditKind))}", kind)
    return cast(EditKind, kind)


def _span(record: Record, span: Any, prompt: str, subject: str | None) -> tuple[int, int]:
    numbers = isinstance(span, list | tuple) and [type(n) for n in span] == [int, int]
    if not numbers or span[0] < 0 or prompt[span[0] : span[1]] != subject:
        expected = f"[start, end) of the subject {subject!r} in the prompt"
        raise record.fail("subject_span", expected, span, "Or leave the field out.")
    return span[0], span[1]


def _probes(record: Record) -> Iterable[Probe]:
    raw = record.get("probes") if record.has("probes") else []
    if not isinstance(raw, list):
        raise record.fail("probes", "a list of probes", raw)
    kinds = get_args(ProbeKind)
    for i, item in enumerate(raw):
        probe = record.inside(f"probes[{i}]", item)
        kind = probe.text("kind")
        if kind not in kinds:
            raise probe.fail("kind", f"one of {', '.join(kinds)}", kind)
        prompt, answer = probe.text("prompt"), probe.text("answer")
        aliases = tuple(probe.texts("aliases")) if probe.has("aliases") else ()
        group = probe.text("group") if probe.has("group") else kind
        probe.close()
        yield Probe(cast(ProbeKind, kind), group, prompt, answer, aliases)


def _answers(record: Record) -> AnswerLists:
    lists = [tuple(record.texts(name)) for name in ("right", "wrong")]
    unrelated = tuple(record.texts("unrelated")) if record.has("unrelated") else ()
    record.close()
    return AnswerLists(lists[0], lists[1], unrelated)


_EASYEDIT = fields("ground_truth rephrase_prompt locality portability")
FORMS = (
    Form(
        "requests",
        needs=fields("prompt target_new"),
        read=_either,
        without=fields("locality_prompt"),  # CounterFact, whose locality would be lost
    ),
)
