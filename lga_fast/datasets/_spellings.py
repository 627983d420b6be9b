"""The ways in which users of EasyEdit write a request: its dicts, its datasets, its arguments.

EasyEdit's editors take `rephrase_prompts` and `locality_inputs`, its request dicts have
`rephrase_prompt` and `locality`, its dataset objects `locality_prompt` or `locality_rs`.
"""

from __future__ import annotations

from lga_fast.datasets import _easyedit
from lga_fast.datasets._fields import Record, note_edges
from lga_fast.records import Probe, ProbeKind

PROMPT = ("prompt", "prompts")
OLD = ("ground_truth", "target_true")
REPHRASE = ("rephrase_prompt", "rephrase_prompts", "rephrase")
GROUPS: dict[ProbeKind, tuple[str, str]] = {
    "locality": ("locality", "locality_inputs"),
    "portability": ("portability", "portability_inputs"),
}
# a prompt and its answer side by side, and the group of such probes in the files that have them
FLAT: dict[ProbeKind, str] = {"locality": "neighborhood", "portability": "one_hop"}
# of KnowEdit's dataset object: one group of its file each
SHORT: dict[str, tuple[ProbeKind, str]] = {
    "locality_rs": ("locality", "Relation_Specificity"),
    "locality_f": ("locality", "Forgetfulness"),
    "portability_r": ("portability", "Reasoning"),
    "portability_s": ("portability", "Subject_Aliasing"),
    "portability_l": ("portability", "Logical_Generalization"),
}
_OF_PROBES = ("locality", "portability", "rephrase", "paraphrase", "neighborhood", "probe")


def spelled(record: Record, names: tuple[str, ...]) -> str:
    """Which of these spellings the record has; the first if it has none."""
    present = [name for name in names if record.has(name)]
    if len(present) > 1:
        got = record.raw[present[1]]
        raise record.fail(present[1], f"nothing beside {present[0]!r}, its other spelling", got)
    return present[0] if present else names[0]


def answer(record: Record, name: str) -> str:
    """The text of an answer; ROME writes it as an object with `str`."""
    if not isinstance(record.get(name), dict):
        return note_edges(record, name, record.text(name))
    target = record.child(name)
    text = note_edges(record, name, target.text("str"))
    target.close(unused=("id",))
    return text


def old_answer(record: Record, target_new: str) -> str | None:
    """The old answer in EasyEdit's or ROME's field; None if there is none."""
    name = spelled(record, OLD)
    if name == "target_true" and isinstance(record.raw[name], dict):
        return answer(record, name)
    return _easyedit.old_answer(record, name, target_new)


def probes(record: Record, target_new: str, subject: str | None) -> list[Probe]:
    """The probes in all fields of EasyEdit that hold some: paraphrases, locality, portability.

    Raises:
        DataError: one of them has the wrong type, or a field is named like one but is none.
    """
    others: list[Probe] = []
    for kind, names in GROUPS.items():
        others += _grouped(record, kind, spelled(record, names))
        others += _flat(record, kind)
    for name, (kind, group) in SHORT.items():
        if record.has(name):
            others += _easyedit.items(record, kind, group, name, record.raw[name])
    rephrases = _easyedit.rephrases(record, spelled(record, REPHRASE), target_new, subject)
    _refuse_others(record)
    return [*rephrases, *others]


def _grouped(record: Record, kind: ProbeKind, name: str) -> list[Probe]:
    raw = record.get(name)
    alone = isinstance(raw, dict) and raw.keys() == {"prompt", "ground_truth"}
    if alone or (isinstance(raw, list | tuple) and all(isinstance(one, dict) for one in raw)):
        return _easyedit.items(record, kind, FLAT[kind], name, raw)
    if kind == "portability" and isinstance(raw, dict) and "New Question" in raw:
        return _easyedit.one_hop(record)
    return _easyedit.groups(record, kind, name)


def _flat(record: Record, kind: ProbeKind) -> list[Probe]:
    prompt, truth = f"{kind}_prompt", spelled(record, (f"{kind}_ground_truth", f"{kind}_answer"))
    if not record.has(prompt) and not record.has(truth):
        return []
    pair = (prompt, record.required(prompt)), (truth, record.required(truth))
    return [
        one
        for each in _easyedit.pairs(record, *pair)
        for one in _easyedit.probe(record, kind, FLAT[kind], *each)
    ]


def _refuse_others(record: Record) -> None:
    """No probes vanish because their field is spelled in yet another way."""
    for name in record.unread():
        if str(name).startswith(_OF_PROBES) and record.raw[name] is not None:
            raise record.fail(
                name,
                "no such field",
                record.raw[name],
                "Probes are read from rephrase_prompt, locality_prompt with locality_ground_truth, "
                "portability_prompt with portability_ground_truth, locality, portability, probes.",
            )
