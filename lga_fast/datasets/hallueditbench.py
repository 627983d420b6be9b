"""HalluEditBench: facts that a model was found to state wrongly, in CSV files by topic and model.

`target_old` is the model's own wrong answer (`output_MODEL`). Besides the paraphrase, which is a
rephrase probe, all questions are portability probes: groups '2hop' to '6hop', 'reversed_relation'
(answered by the subject), 'yes', 'no', and 'multiple_choice' (answered by a letter). Its locality
questions have no answers, because the benchmark compares two free answers; they are left out.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets import _easyedit
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import EditRequest, Probe

_MODEL = ("output_", "eval_")  # columns that end in a model's name


def read(path: Path) -> LoadedEdits:
    """The edits of a HalluEditBench file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("event_film.csv"))[0].probes[0].kind
        'rephrase'
    """
    return load_edits_file(path, "hallueditbench", FORMS)


def _request(record: Record) -> EditRequest:
    old = next((name for name in record.raw if name.startswith(_MODEL[0])), _MODEL[0])
    probes: list[Probe] = []
    for hops in range(2, 7):
        probes += _asked(record, f"{hops}hop", f"question_{hops}hop", f"answer_{hops}hop")
    probes += _asked(record, "reversed_relation", "reversed_relation_question", "subject")
    for answer in ("Yes", "No"):
        name = f"{answer.lower()}_question"
        probes += _asked(record, answer.lower(), name, name, answer)
    probes += _choice(record)
    for name in record.raw:
        if name.startswith(_MODEL):
            record.get(name)
    if record.has("locality_question"):
        record.note("missing_answer", "locality_question")
    return _easyedit.request(
        record, "question", "object", "subject", old, "paraphrased_question", probes
    )


def _asked(record: Record, group: str, prompt: str, answer: str, text: str = "") -> list[Probe]:
    """A question that may be lacking, with its answer: the text, or that of field `answer`."""
    if not record.has(prompt):
        return []
    truth = answer, text or record.get(answer)
    return _easyedit.probe(record, "portability", group, (prompt, record.get(prompt)), truth)


def _choice(record: Record) -> list[Probe]:
    name = "multiple_choice_with_letters"
    if not record.has(name):
        return []
    prompt = name, f"{record.text('question')} {record.text(name)}"
    answer = "multiple_choice_labels", record.get("multiple_choice_labels")
    return _easyedit.probe(record, "portability", "multiple_choice", prompt, answer)


FORMS = (
    Form(
        "HalluEditBench",
        needs=fields("subject relation object question paraphrased_question locality_question"),
        read=_request,
        unused=fields("topic relation multiple_choices label"),
    ),
)
