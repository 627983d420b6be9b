"""RippleEdits (popular, random, recent): edits with six criteria for what follows from them.

An edit is a whole sentence, and names its subject by a Wikidata id only. Where the sentence is cut
comes from the file itself: what the queries about a relation have in common before and after their
subjects frames every sentence of that relation. A relation that is asked of fewer than four
subjects shows no frame; then the words that the edit shares with `original_fact` are the prompt
(with those that both answers begin with), and there is no subject; without an original fact the
record is dropped, and the report says so.

Relation_Specificity and Forgetfulness are locality probes, the other criteria portability probes.
Each test query is a probe; the conditions under which a test counts are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from lga_fast.datasets import _easyedit
from lga_fast.datasets._fields import Record
from lga_fast.datasets._files import read_source
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest, Probe, ProbeKind

_KINDS: dict[str, ProbeKind] = {
    "Relation_Specificity": "locality",
    "Relation_Specifity": "locality",  # as the benchmark's README spells it
    "Forgetfulness": "locality",
    "Logical_Generalization": "portability",
    "Subject_Aliasing": "portability",
    "Compositionality_I": "portability",
    "Compositionality_II": "portability",
}
_SUBJECTS = 4  # that a frame is learnt from, at least


class Frame(NamedTuple):
    """What all queries about a relation begin and end with."""

    before: str
    after: str


def read(path: Path) -> LoadedEdits:
    """The edits of a RippleEdits file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("popular.json"))[0].subject
        'Leonardo DiCaprio'
    """
    return load_edits_file(path, "rippleedits", (_form(_frames(read_source(path).records)),))


def _form(frames: Mapping[str, Frame]) -> Form[EditRequest]:
    return Form(
        "RippleEdits",
        needs=fields("edit Logical_Generalization Subject_Aliasing Compositionality_I"),
        read=partial(_requests, frames),
        unused=fields("example_type"),
        inside={"edit": fields("prompt subject_id relation")},
    )


def _frames(records: list[Any]) -> dict[str, Frame]:
    """The frame of each relation that is asked of enough subjects."""
    prompts: dict[str, dict[str, list[str]]] = {}
    for query in _queries(records):
        if query.get("query_type") == "regular" and query.get("phrase") is None:
            by_subject = prompts.setdefault(str(query.get("relation")), {})
            by_subject[str(query.get("subject_id"))] = str(query.get("prompt")).split(" ")
    return {
        relation: Frame(_shared(list(words.values())), _shared(list(words.values()), end=True))
        for relation, words in prompts.items()
        if len(words) >= _SUBJECTS
    }


def _queries(node: Any) -> Iterator[Mapping[str, Any]]:
    """All queries of tests and conditions, wherever they are."""
    if isinstance(node, dict):
        if "query_type" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _queries(one)


def _shared(texts: list[list[str]], end: bool = False) -> str:
    """The words that all texts begin with, or end with."""
    order = [words[::-1] for words in texts] if end else texts
    shared = [
        words[0] for words in takewhile(lambda words: len({*words}) == 1, zip(*order, strict=False))
    ]
    return " ".join(shared[::-1] if end else shared)


def _requests(frames: Mapping[str, Frame], record: Record) -> list[EditRequest]:
    edit = record.child("edit")
    sentence, relation = edit.text("prompt"), edit.text("relation")
    original = edit.child("original_fact") if edit.has("original_fact") else None
    old_sentence = original.text("prompt") if original else None
    cut = _framed(sentence, frames.get(relation)) or _common(sentence, old_sentence)
    probes = [one for group, kind in _KINDS.items() for one in _probes(record, group, kind)]
    edit.close(unused=fields("subject_id target_id"))
    if original:
        original.close(unused=fields("subject_id relation target_id"))
    if cut is None:
        record.note("dropped", f"edit.prompt: nothing shows where {sentence!r} is to be cut")
        return []
    prompt, subject = cut
    target_new = _target(sentence, prompt)
    target_old = _target(old_sentence, prompt) if old_sentence else ""
    if target_old == target_new:
        record.note("target_is_old", "edit.original_fact")
    span = None
    if subject is None:
        record.note("subject_absent", "edit.subject_id")
    else:
        start = prompt.index(subject)
        span = (start, start + len(subject))
    return [
        EditRequest(
            record.case_id, prompt, target_new, subject, span, target_old or None, tuple(probes)
        )
    ]


def _framed(sentence: str, frame: Frame | None) -> tuple[str, str] | None:
    """The prompt and the subject of a sentence in this frame."""
    if frame is None or not sentence.startswith(frame.before) or not frame.after:
        return None
    end = sentence.find(f" {frame.after} ", len(frame.before))
    subject = sentence[len(frame.before) : max(end, 0)].strip()
    if not subject or not _target(sentence, sentence[:end] + f" {frame.after}"):
        return None
    return sentence[:end] + f" {frame.after}", subject


def _common(sentence: str, other: str | None) -> tuple[str, None] | None:
    """The words that both sentences begin with, if they differ after them."""
    prompt = _shared([sentence.split(" "), other.split(" ")]) if other else ""
    return (prompt, None) if prompt and _target(sentence, prompt) else None


def _target(sentence: str, prompt: str) -> str:
    """What follows the prompt, without the full stop; nothing if it does not begin so."""
    if not sentence.startswith(prompt):
        return ""
    return sentence[len(prompt) :].removesuffix(".").strip()


def _probes(record: Record, group: str, kind: ProbeKind) -> list[Probe]:
    probes: list[Probe] = []
    tests = record.children(group) if record.get(group) else []
    for test in tests:
        for query in test.children("test_queries") if test.get("test_queries") else []:
            prompt = "prompt", query.required("prompt")
            answers = [
                [answer.text("value"), *answer.texts("aliases")]
                for answer in (query.children("answers") if query.get("answers") else [])
            ]
            probes += _easyedit.probe(query, kind, group, prompt, ("answers", answers))
    return probes


FORMS = (_form({}),)
