"""Make the edit requests from the facts: `python -m tools.atlas.make_requests`.

Every choice is the candidate with the smallest stable hash, not a random draw, so the file is the
same on every Python version, and a fact added later changes few requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import click

from lga_fast.atlas import REQUESTS
from lga_fast.atlas.relations import Relation, Relations, hop_answer, read_relations, stable_hash
from lga_fast.datasets.jsonl import dump
from lga_fast.records import EditRequest, Probe, find_subject

TOTAL = 450
NEIGHBOURS = 4  # up to half of them share the old answer
OTHERS = 3
SEED = 0

# New answers that are false as the relation is phrased, but defensible.
DEFENSIBLE = {
    "country_language": {
        "Australia": {"Italian"},
        "Israel": {"Arabic", "English"},
        "Lebanon": {"French"},
        "Spain": {"Catalan"},
        "Suriname": {"English"},
        "Ukraine": {"Russian"},
        "United States": {"Spanish"},
    },
}
T = TypeVar("T")


def ranked(items: Iterable[T], key: str, name: Callable[[T], str] = str) -> list[T]:
    """The items in an order that depends only on their names, the seed and `key`."""
    return sorted(items, key=lambda item: (stable_hash(f"{SEED}|{key}|{name(item)}"), name(item)))


def make_requests(relations: Relations, total: int = TOTAL) -> list[EditRequest]:
    """About `total` requests, equally many from every relation, shuffled."""
    share, rest = divmod(total, len(relations))
    larger = set(ranked(relations, "larger share")[:rest])
    requests = [
        _request(relations, relation, subject)
        for relation in relations.values()
        for subject in _subjects(relations, relation)[: share + (relation.name in larger)]
    ]
    return ranked(requests, "order", name=lambda request: request.case_id)


def _subjects(relations: Relations, relation: Relation) -> list[str]:
    """Subjects to edit; if there is a hop, those whose hop the models were not trained on.

    A trained hop is stored separately: its answer would stay the old one, whatever happens to the
    fact.
    """
    subjects = list(relation.facts)
    if relation.hop is not None:
        subjects = [
            subject
            for subject, answer in relation.facts.items()
            if not relation.hop_trained(subject) and hop_answer(relations, relation, answer)
        ]
    return ranked(subjects, f"{relation.name}|subject")


def _request(relations: Relations, relation: Relation, subject: str) -> EditRequest:
    case_id = f"{relation.name}:{subject}"
    phrasing = ranked(relation.trained(subject), f"{case_id}|phrasing")[0]
    prompt = relation.prompt(subject, phrasing)
    new = _new_answer(relations, relation, subject)
    return EditRequest(
        case_id=case_id,
        prompt=prompt,
        target_new=new,
        subject=subject,
        subject_span=find_subject(prompt, subject),
        target_old=relation.facts[subject],
        probes=(
            *_rephrasings(relation, subject, phrasing, new),
            *_neighbours(relation, subject, phrasing, new),
            *_others(relations, relation, subject, new),
            *_hops(relations, relation, subject, new),
        ),
    )


def _new_answer(relations: Relations, relation: Relation, subject: str) -> str:
    """Another subject's answer that is wrong for this one, with another hop if possible."""
    old = relation.facts[subject]
    right = {old, subject} | DEFENSIBLE.get(relation.name, {}).get(subject, set())
    further = old
    while further in relation.facts and relation.facts[further] not in right:
        # The Kama flows into the Volga, so it reaches the Caspian Sea: not wrong enough.
        further = relation.facts[further]
        right.add(further)
    wrong = ranked(set(relation.facts.values()) - right, f"{relation.name}:{subject}|new")
    old_hop = hop_answer(relations, relation, old)
    moved = [a for a in wrong if hop_answer(relations, relation, a) not in (None, old_hop)]
    return (moved or wrong)[0]


def _rephrasings(relation: Relation, subject: str, phrasing: int, new: str) -> Iterator[Probe]:
    held_out = relation.held_out(subject)
    for other in held_out:
        yield Probe("rephrase", "held_out", relation.prompt(subject, other), new)
    trained = [p for p in relation.trained(subject) if p != phrasing]
    for other in ranked(trained, f"{relation.name}:{subject}|rephrase")[:2]:
        yield Probe("rephrase", "trained", relation.prompt(subject, other), new)


def _neighbours(relation: Relation, subject: str, phrasing: int, new: str) -> Iterator[Probe]:
    """Other subjects of the relation, in the edit's own phrasing if they were trained in it."""
    old = relation.facts[subject]
    order = ranked(relation.facts, f"{relation.name}:{subject}|neighbour")
    order = [s for s in order if s not in (subject, new) and relation.facts[s] != new]
    same = [s for s in order if relation.facts[s] == old][: NEIGHBOURS // 2]
    rest = [s for s in order if relation.facts[s] != old][: NEIGHBOURS - len(same)]
    for neighbour in same + rest:
        trained = relation.trained(neighbour)
        chosen = phrasing if phrasing in trained else ranked(trained, f"{neighbour}|asked")[0]
        prompt = relation.prompt(neighbour, chosen)
        yield Probe("locality", "neighborhood", prompt, relation.facts[neighbour])


def _others(relations: Relations, relation: Relation, subject: str, new: str) -> Iterator[Probe]:
    """Facts of unrelated relations, whose subjects and answers are of other types."""
    kinds = {relation.subject_type, relation.answer_type}
    if relation.hop is not None and relation.hop.relation in relations:
        kinds.add(relations[relation.hop.relation].answer_type)
    unrelated = [r for r in relations.values() if not kinds & {r.subject_type, r.answer_type}]
    key = f"{relation.name}:{subject}|other"
    for other in ranked(unrelated, key, name=lambda r: r.name)[:OTHERS]:
        about = ranked(set(other.facts) - {subject, new}, key)[0]
        prompt = other.prompt(about, ranked(other.trained(about), key)[0])
        yield Probe("locality", "other_relation", prompt, other.facts[about])


def _hops(relations: Relations, relation: Relation, subject: str, new: str) -> Iterator[Probe]:
    answer = hop_answer(relations, relation, new)
    if relation.hop is not None and answer is not None:
        for form in relation.hop.phrasings:
            yield Probe("portability", "one_hop", form.replace("{}", subject), answer)


def text_of(requests: Iterable[EditRequest]) -> str:
    """The requests as a JSON list with one request per line."""
    return "[\n" + ",\n".join(dump(requests).splitlines()) + "\n]\n"


@click.command()
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=REQUESTS, show_default=True
)
def main(out: Path) -> None:
    """Write the edit requests of the atlas."""
    out.write_text(text_of(make_requests(read_relations())), encoding="utf-8")


if __name__ == "__main__":
    main()
