"""Edit requests as lga_fast writes them, one JSON object per line; also EasyEdit's request dicts.

Files of `write_jsonl` are read back exactly. In files written by hand `prompt` and `target_new`
suffice; without `subject_span` the subject's first occurrence counts, or the place of `{}` in a
prompt without it. A .json list is read too, and so are all of EasyEdit's spellings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast, get_args

from lga_fast.datasets import _spellings
from lga_fast.datasets._fields import Record, note_edges, own_id
from lga_fast.datasets._files import describe
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits, LoadReport
from lga_fast.datasets._templates import is_template, note_unfilled, paraphrase, placed_subject
from lga_fast.errors import DataError
from lga_fast.files import write_atomic
from lga_fast.parsing import parse_path
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
    requests = list(requests)
    for index, request in enumerate(requests):
        if not isinstance(request, EditRequest):
            raise DataError(
                f"request {index}: expected an EditRequest, got {describe(request)}. "
                "load_edits makes them of dicts."
            )
    rows = [plain(request) for request in requests]
    for index, row in enumerate(rows):
        record = Record(row, f"request {index}", index, LoadReport(len(rows)))
        record.case_id = own_id(record, "case_id") or str(index)
        _request(record)
    write_atomic(parse_path(path), _lines(rows))


def dump(requests: Iterable[EditRequest]) -> str:
    """`requests` as JSON Lines, unchecked."""
    return _lines([plain(request) for request in requests])


def checksum(requests: Iterable[EditRequest]) -> str:
    """SHA-256 of `requests` as JSON Lines."""
    return hashlib.sha256(dump(requests).encode(errors="surrogatepass")).hexdigest()


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def plain(request: EditRequest) -> dict[str, Any]:
    """The record that `write_jsonl` writes of a request; what has a wrong type stays as it is."""
    # vars, not asdict: asdict copies every value, which takes longer than writing the JSON
    row = dict(vars(request))
    if isinstance(request.probes, tuple | list):
        row["probes"] = [
            {name: value for name, value in vars(probe).items() if name != "aliases" or value}
            if isinstance(probe, Probe)
            else probe
            for probe in request.probes
        ]
    answers = row.pop("answers")
    if answers is None:
        return row
    return row | {"answers": dict(vars(answers)) if isinstance(answers, AnswerLists) else answers}


def _request(record: Record) -> EditRequest:
    """A request as `write_jsonl` writes it, or in any of EasyEdit's spellings, or both mixed."""
    prompt_at = _spellings.spelled(record, _spellings.PROMPT)
    prompt = note_edges(record, prompt_at, record.text(prompt_at))
    target_new = _spellings.answer(record, "target_new")
    prompt, subject, span = _subject(record, prompt_at, prompt)
    probes = (*_probes(record, subject), *_spellings.probes(record, target_new, subject))
    if not record.has("target_old"):
        old = _spellings.old_answer(record, target_new)
    else:
        _spellings.spelled(record, ("target_old", *_spellings.OLD))
        old = record.string("target_old", record.raw["target_old"])
    return EditRequest(
        case_id=record.case_id,
        prompt=prompt,
        target_new=target_new,
        subject=subject,
        subject_span=span,
        target_old=old,
        probes=probes,
        answers=_answers(record.child("answers")) if record.has("answers") else None,
        kind=_kind(record),
    )


def _subject(
    record: Record, prompt_at: str, prompt: str
) -> tuple[str, str | None, tuple[int, int] | None]:
    """Prompt, subject and its span; a span that the record states holds, if it is null as well."""
    span = record.get("subject_span")
    if "subject_span" not in record.raw:
        return placed_subject(record, prompt_at, prompt, "subject")
    subject = record.get("subject")
    subject = None if subject is None else record.string("subject", subject)
    if span is not None:
        return prompt, subject, _span(record, span, prompt, subject)
    if subject and is_template(prompt, subject):
        return placed_subject(record, prompt_at, prompt, "subject")
    return prompt, subject, None


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


def _probes(record: Record, subject: str | None) -> Iterable[Probe]:
    raw = record.get("probes") if record.has("probes") else []
    if not isinstance(raw, list):
        raise record.fail("probes", "a list of probes", raw)
    kinds = get_args(ProbeKind)
    for i, item in enumerate(raw):
        probe = record.inside(f"probes[{i}]", item)
        kind = probe.text("kind")
        if kind not in kinds:
            raise probe.fail("kind", f"one of {', '.join(kinds)}", kind)
        prompt, answer = probe.text("prompt"), probe.string("answer", probe.required("answer"))
        if kind == "rephrase":  # asks for the edit's own answer
            prompt = paraphrase(record, f"probes[{i}].prompt", prompt, subject)
        else:
            probe.text("answer")
            note_unfilled(record, f"probes[{i}].prompt", prompt)
        aliases = tuple(probe.texts("aliases")) if probe.has("aliases") else ()
        group = probe.text("group") if probe.has("group") else kind
        probe.close()
        yield Probe(cast(ProbeKind, kind), group, prompt, answer, aliases)


def _answers(record: Record) -> AnswerLists:
    lists = [tuple(record.texts(name)) for name in ("right", "wrong")]
    unrelated = tuple(record.texts("unrelated")) if record.has("unrelated") else ()
    record.close()
    return AnswerLists(lists[0], lists[1], unrelated)


FORMS = (
    Form(
        "requests",
        needs=fields("prompt target_new"),
        read=_request,
        without=fields("locality_prompt"),  # CounterFact, whose locality would be lost
    ),
)
