"""EasyEdit's request form, which KnowEdit's files share: one edit with its named probe groups."""

from __future__ import annotations

from typing import Any

from lga_fast.datasets._fields import Record, note_edges
from lga_fast.datasets._templates import note_unfilled, paraphrase, placed_subject
from lga_fast.records import EditRequest, Probe, ProbeKind

# EasyEdit's filler for a missing ground truth; it must not be compared with as an answer.
_PLACEHOLDER = "<|endoftext|>"
_TRUTH = "ground_truth"  # of a probe; CKnowEdit writes `answer`


def request(
    record: Record,
    prompt: str = "prompt",
    target: str = "target_new",
    subject: str = "subject",
    old: str = "ground_truth",
    rephrase: str = "rephrase_prompt",
    probes: list[Probe] | None = None,
) -> EditRequest:
    """One edit; the arguments name the file's fields.

    Probes besides the paraphrases are `probes`, else those of fields locality and portability.
    """
    text = note_edges(record, prompt, record.text(prompt))
    target_new = note_edges(record, target, record.text(target))
    text, name, span = placed_subject(record, prompt, text, subject)
    if probes is None:
        probes = groups(record, "locality") + groups(record, "portability")
    return EditRequest(
        case_id=record.case_id,
        prompt=text,
        target_new=target_new,
        subject=name,
        subject_span=span,
        target_old=old_answer(record, old, target_new),
        probes=(*rephrases(record, rephrase, target_new, name), *probes),
    )


def neighborhood(record: Record, prompt: str, answer: str) -> list[Probe]:
    """The one locality probe of a flat record, from fields `prompt` and `answer`."""
    pair = (prompt, record.required(prompt)), (answer, record.required(answer))
    return probe(record, "locality", "neighborhood", *pair)


def one_hop(record: Record) -> list[Probe]:
    """The question that GPT-4 wrote for a record of ZsRE or CounterFact, if there is one."""
    if not record.has("portability"):
        return []
    hop = record.child("portability")
    question = "portability.New Question", hop.required("New Question")
    answer = "portability.New Answer", hop.required("New Answer")
    hop.close(unused=("Recalled Relation",))
    return probe(record, "portability", "one_hop", question, answer)


def old_answer(record: Record, name: str, target_new: str) -> str | None:
    """The first old answer in field `name`, a text or a list of them; None if there is none."""
    if not record.has(name):
        return None
    texts = record.texts(name)
    answers = [answer for answer in texts if answer.strip()]
    if len(answers) < len(texts) or not texts:
        record.note("blank_alias" if answers else "blank_field", name)
    if _PLACEHOLDER in answers:
        record.note("placeholder_old_answer", name)
        answers = [answer for answer in answers if answer != _PLACEHOLDER]
    if len(answers) > 1:
        record.note("other_old_answers", f"{name}: {len(answers) - 1} more")
    if target_new.strip() in (answer.strip() for answer in answers):
        record.note("target_is_old", name)
    return answers[0] if answers else None


def rephrases(record: Record, name: str, target_new: str, subject: str | None) -> list[Probe]:
    """Probes from the paraphrases in field `name`; their answer is the edit's own target."""
    if not record.has(name):
        return []
    probes = []
    for i, text in enumerate(record.texts(name)):
        prompt = f"{name}[{i}]", paraphrase(record, f"{name}[{i}]", text, subject)
        probes += probe(record, "rephrase", "rephrase", prompt, (name, target_new))
    return probes


def groups(record: Record, kind: ProbeKind, name: str = "") -> list[Probe]:
    """Probes of field `name`: `{group: [{prompt, ground_truth}]}` or `{group: {prompt, ...}}`.

    In the second form both may be lists of the same length. `name` is `kind` unless it is given.
    """
    name = name or kind
    if not record.has(name):
        return []
    probes = []
    for group, raw in record.child(name).raw.items():
        probes += items(record, kind, group, f"{name}.{group}", raw)
    return probes


def items(record: Record, kind: ProbeKind, group: str, at: str, raw: Any) -> list[Probe]:
    """Probes of one group, whose items are in `raw`, found at `at`."""
    pairs = _items(record, at, raw)
    if not pairs:
        record.note("empty_group", at)
    return [one for pair in pairs for one in probe(record, kind, group, *pair)]


def pairs(
    record: Record, prompt: tuple[str, Any], truth: tuple[str, Any]
) -> list[tuple[tuple[str, Any], tuple[str, Any]]]:
    """A prompt with its answers, or each of a list of prompts with its own from a list of answers.

    All with the field they are in.
    """
    (prompt_at, texts), (truth_at, answers) = prompt, truth
    if not isinstance(texts, list | tuple):
        return [(prompt, truth)]
    if not isinstance(answers, list | tuple) or len(answers) != len(texts):
        raise record.fail(
            truth_at,
            f"a list of {len(texts)}, one for each prompt",
            answers,
            "Give as many ground truths as prompts.",
        )
    return [
        ((f"{prompt_at}[{i}]", text), (f"{truth_at}[{i}]", answer))
        for i, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]


def probe(
    record: Record, kind: ProbeKind, group: str, prompt: tuple[str, Any], answers: tuple[str, Any]
) -> list[Probe]:
    """The probe of a prompt and its answers, each given with the field it is in.

    No probe but a finding if the prompt is blank or there is no answer.
    """
    text = record.string(*prompt)
    if not text.strip():
        record.note("blank_prompt", prompt[0])
        return []
    if kind != "rephrase":
        note_unfilled(record, *prompt)
    aliases = _aliases(record, *answers)
    if not aliases:
        record.note("missing_answer", answers[0])
        return []
    return [Probe(kind, group, text, aliases[0], tuple(aliases[1:]))]


def _items(record: Record, at: str, raw: Any) -> list[tuple[tuple[str, Any], tuple[str, Any]]]:
    """Prompt and answers of each item of a group, each with the field it is in."""
    if not isinstance(raw, list | tuple | dict):
        raise record.fail(at, "a list of items, or an object with prompt and ground_truth", raw)
    items = []
    for path, raw_item in (
        [(at, raw)] if isinstance(raw, dict) else [(f"{at}[{i}]", x) for i, x in enumerate(raw)]
    ):
        item = record.inside(path, raw_item)
        prompt = f"{path}.prompt", item.required("prompt")
        name = "answer" if "answer" in item.raw and "ground_truth" not in item.raw else _TRUTH
        truth = f"{path}.{name}", item.required(name)
        item.close()
        items += pairs(record, prompt, truth) if isinstance(raw, dict) else [(prompt, truth)]
    return items


def _aliases(record: Record, at: str, value: Any) -> list[str]:
    """All right answers in `value`: a text, a list of texts, or a list of lists of aliases."""
    answers: list[str] = []
    blanks: list[str] = []

    def collect(at: str, value: Any, depth: int) -> None:
        if not isinstance(value, list | tuple):
            text = record.string(at, value)
            if text.strip():
                answers.append(text)
            else:
                blanks.append(at)
            return
        if depth == 2:
            raise record.fail(at, "a text; aliases are in lists of lists at most", value)
        if not value:
            blanks.append(at)
        for i, inner in enumerate(value):
            collect(f"{at}[{i}]", inner, depth + 1)

    if value is not None:
        collect(at, value, 0)
    if answers:
        for blank in blanks:
            record.note("blank_alias", blank)
    return answers
