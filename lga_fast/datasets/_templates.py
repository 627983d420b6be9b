"""Prompts with `{}` where the subject goes, as ROME writes them: filled in, or reported."""

from __future__ import annotations

import re

from lga_fast.datasets._fields import Record, note_subject_place
from lga_fast.records import find_subject

PLACE = "{}"


def filled(template: str, subject: str) -> tuple[str, tuple[int, int]]:
    """`template` with the subject at its only `{}`, and the subject's place.

    By position: the subject may also occur elsewhere, and other braces are text.
    """
    start = template.index(PLACE)
    prompt = template[:start] + subject + template[start + len(PLACE) :]
    return prompt, (start, start + len(subject))


def is_template(text: str, subject: str) -> bool:
    """Whether the subject is to be filled in: one `{}`, and the subject is no word of the text.

    Where it is one, braces are text. Inside a longer word (Iran in Iranian) it is no mention.
    """
    return text.count(PLACE) == 1 and not re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", text)


def placed_subject(
    record: Record, prompt_at: str, prompt: str, subject_at: str
) -> tuple[str, str | None, tuple[int, int] | None]:
    """The prompt, the subject from field `subject_at` and its place; oddities go to the report.

    A template is filled in. Raises `DataError` if the subject is nowhere and could go to several
    places.
    """
    subject = record.text_or_none(subject_at)
    if subject is None:
        note_unfilled(record, prompt_at, prompt)
        return prompt, None, None
    if subject != subject.strip():
        # a space at the end would move "the subject's last token" to the next word
        record.note("edge_whitespace", subject_at)
        subject = subject.strip()
    span = find_subject(prompt, subject)
    if span is None and prompt.count(PLACE) > 1:
        raise record.fail(prompt_at, "text with '{}' once, where the subject goes", prompt)
    if is_template(prompt, subject):
        prompt, span = filled(prompt, subject)
        record.note("filled_template", prompt_at)
    elif PLACE not in subject:
        note_unfilled(record, prompt_at, prompt)
    if span is None:
        record.note("subject_absent", subject_at)
    else:
        note_subject_place(record, subject_at, prompt, span)
    return prompt, subject, span


def paraphrase(record: Record, at: str, text: str, subject: str | None) -> str:
    """A paraphrase of a prompt about `subject`, filled in if it is a template."""
    if not subject or not is_template(text, subject):
        note_unfilled(record, at, text)
        return text
    record.note("filled_template", at)
    return filled(text, subject)[0]


def note_unfilled(record: Record, at: str, text: str) -> None:
    """Report `{}` in a text that stays as it is."""
    if PLACE in text:
        record.note("unfilled_template", at)
