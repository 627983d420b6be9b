"""AKEW (CounterFact, MQuAKE-CF, WikiUpdate): each edit as a text that states it among other facts.

The text (`fact_new_uns`) is the target, so that the edits are unstructured; each triplet taken out
of it is a portability probe of group 'triplet'. The questions are those that AnyEdit asks: the full
prompt, or the question if there is none. CounterFact's paraphrases are rephrase probes, and its
neighborhood prompts locality probes, as in ROME's own file, which `counterfact` reads. Of MQuAKE-CF
each edit is a request; its multi-hop questions are about short answers, and `mquake` reads them.
"""

from __future__ import annotations

from pathlib import Path

from lga_fast.datasets import _easyedit, _rewrite
from lga_fast.datasets._fields import Record
from lga_fast.datasets._forms import Form, fields, load_edits_file
from lga_fast.datasets._report import LoadedEdits
from lga_fast.datasets._templates import filled, is_template, placed_subject
from lga_fast.records import EditRequest, Probe


def read(path: Path) -> LoadedEdits:
    """The edits of an AKEW file; raises `DataError` if it has another form.

    Example:
        >>> read(Path("WikiUpdate.json"))[0].kind
        'unstructured'
    """
    return load_edits_file(path, "akew", FORMS)


def _requests(record: Record) -> list[EditRequest]:
    edits = record.children("requested_rewrite")
    ids = _rewrite.case_ids(record, len(edits))
    return [_request(record, *edit) for edit in zip(edits, ids, strict=True)]


def _request(record: Record, inner: Record, case_id: str) -> EditRequest:
    rewrite = _rewrite.of(record, inner)
    asked = "prompt_full" if inner.has("prompt_full") else "question"
    prompt, subject, span = placed_subject(inner, asked, inner.text(asked), "subject")
    text = inner.text("fact_new_uns")
    if inner.get("verify_unsfact_GPT") is False:
        record.note("unverified_text", "requested_rewrite.fact_new_uns")
    probes = _easyedit.rephrases(record, "paraphrase_prompts", text, subject)
    probes += _rewrite.neighbors(record, rewrite) + _triplets(inner)
    inner.close(unused=_INNER)
    return EditRequest(
        case_id, prompt, text, subject, span, None, tuple(probes), kind="unstructured"
    )


def _triplets(inner: Record) -> list[Probe]:
    probes: list[Probe] = []
    raws = inner.required(_TRIPLETS)
    if not isinstance(raws, list):
        raise inner.fail(_TRIPLETS, "a list of triplets", raws)
    for i, raw in enumerate(raws):
        at = f"{_TRIPLETS}[{i}]"
        triplet = inner.inside(at, raw)
        prompt, subject = triplet.text("prompt"), triplet.text("subject")
        prompt = filled(prompt, subject)[0] if is_template(prompt, subject) else prompt
        asked, target = (f"{at}.prompt", prompt), (f"{at}.target", triplet.required("target"))
        probes += _easyedit.probe(inner, "portability", "triplet", asked, target)
        triplet.close()
    return probes


_TRIPLETS = "unsfact_triplets_GPT"
_INNER = fields(
    "relation_id question fact_new answer_new answer_new_aliases answer_true answer_true_aliases "
    "time_true time_new"
)
_TEXT = {"requested_rewrite": fields("fact_new_uns unsfact_triplets_GPT")}
FORMS = (
    Form(
        "CounterFact",
        fields("requested_rewrite paraphrase_prompts neighborhood_prompts"),
        _requests,
        unused=fields("pararel_idx attribute_prompts generation_prompts"),
        inside=_TEXT,
    ),
    Form(
        "MQuAKE-CF",
        fields("requested_rewrite questions new_answer single_hops new_single_hops"),
        _requests,
        unused=fields(
            "questions new_answer new_answer_alias answer answer_alias single_hops new_single_hops "
            "orig loc loc_ans"
        ),
        inside=_TEXT,
    ),
    Form(
        "WikiUpdate",
        fields("requested_rewrite"),
        _requests,
        unused=fields("pararel_idx loc loc_ans"),
        inside=_TEXT,
    ),
)
