"""PEAK: questions with many right answers, to which an edit adds one more (composite editing).

One record is one edit request, because the file asks for one new answer per question:

- `prompt` is the question with its subject filled in, `target_new` the answer to add;
- `target_old` is the file's `target_true`, which is always the first of its right answers;
- `answers.right` is `postive_list` (the file's spelling): right before, and meant to stay so;
- `answers.wrong` is `negtive_list`: false answers of the same kind, which must not gain;
- `answers.unrelated` is `negtive_random_list`: false answers of any kind;
- paraphrases (`para_add_prompts`) are rephrase probes that `target_new` answers;
- `neighborhood_prompts`, pairs of prompt and answer, are locality probes 'neighborhood': facts
  about others whose answers are all in `postive_list`.

The answer lists are not probes: they belong to the edited prompt itself, so measures of locality or
portability must not average over them. A composite metric takes `(target_new, *answers.right)`
without repeats as the answers that should hold after the edit, since a few lists contain the new
answer already; a metric that inserts several answers in turn makes a request of each with
`dataclasses.replace(request, target_new=answer)`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lga_fast.datasets import _easyedit, _rewrite
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.records import AnswerLists, EditRequest


def read(path: Path) -> LoadedEdits:
    """The edits of a PEAK file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("PEAK_counter.json"))[0].answers.right[:2]
        ('Armenian', 'Syria')
    """
    return load_edits_file(path, "peak", FORMS)


def _request(record: Record) -> EditRequest:
    rewrite = _rewrite.rewrite(record)
    probes = _easyedit.rephrases(record, "para_add_prompts", rewrite.target_new, rewrite.subject)
    pairs = record.required("neighborhood_prompts")
    if not isinstance(pairs, list):
        raise record.fail("neighborhood_prompts", "a list of [prompt, answer] pairs", pairs)
    for i, pair in enumerate(pairs):
        at = f"neighborhood_prompts[{i}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise record.fail(at, "a pair [prompt, answer]", pair)
        prompt, answer = (f"{at}[0]", pair[0]), (f"{at}[1]", pair[1])
        probes += _easyedit.probe(record, "locality", "neighborhood", prompt, answer)
    answers = AnswerLists(
        right=_answers(record, "postive_list"),
        wrong=_answers(record, "negtive_list"),
        unrelated=_answers(record, "negtive_random_list"),
    )
    if rewrite.target_new in answers.right:
        record.note("target_among_right", "postive_list")
    for both in sorted(set(answers.right) & set(answers.wrong)):
        record.note("right_and_wrong", both)
    return replace(rewrite.request(record.case_id, probes, answers), kind="composite")


def _answers(record: Record, name: str) -> tuple[str, ...]:
    texts = record.texts(name)
    for i, text in enumerate(texts):
        if not text.strip():
            record.note("blank_alias", f"{name}[{i}]")
    return tuple(text for text in texts if text.strip())


FORMS = (
    Form(
        "PEAK",
        needs=fields(
            "requested_rewrite postive_list negtive_list negtive_random_list neighborhood_prompts"
        ),
        read=_request,
    ),
)
