"""The facts, and the sentences that state them and ask for them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lga_fast.atlas import FACTS
from lga_fast.errors import DataError

N_PHRASINGS = 8
HELD_OUT_PAIRS = tuple(itertools.combinations(range(N_PHRASINGS), 2))


def stable_hash(text: str) -> int:
    """64 bits that are the same in every process, unlike Python's own hash of strings."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class Hop:
    """A one-hop question: about the subject, but for the answer's own answer."""

    relation: str  # maps this relation's answer to the hop's answer
    phrasings: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """One fact file."""

    name: str
    subject_type: str
    answer_type: str
    phrasings: tuple[str, ...]
    facts: dict[str, str]  # subject -> answer
    hop: Hop | None = None

    def prompt(self, subject: str, phrasing: int) -> str:
        """The text that ends just before the answer."""
        return self.phrasings[phrasing].replace("{}", subject)

    def held_out(self, subject: str) -> tuple[int, ...]:
        """The two phrasings in which the models never saw this fact, only others."""
        chosen = stable_hash(f"{self.name}|{subject}|phrasings") % len(HELD_OUT_PAIRS)
        return HELD_OUT_PAIRS[chosen]

    def trained(self, subject: str) -> tuple[int, ...]:
        """The six phrasings in which the models saw this fact."""
        held_out = self.held_out(subject)
        return tuple(i for i in range(N_PHRASINGS) if i not in held_out)

    def hop_trained(self, subject: str) -> bool:
        """Whether the models saw this subject's hop; they saw half of them, to learn the form."""
        return stable_hash(f"{self.name}|{subject}|hop") % 2 == 0


Relations = dict[str, Relation]


def read_relation(path: Path) -> Relation:
    """Read one fact file; an error names the field that is missing or malformed."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        hop = record["hop"]
        relation = Relation(
            name=record["relation"],
            subject_type=record["subject_type"],
            answer_type=record["answer_type"],
            phrasings=tuple(record["phrasings"]),
            facts={subject: answer for subject, answer in record["facts"]},
            hop=None if hop is None else Hop(hop["relation"], tuple(hop["phrasings"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path.name}: expected a fact file, got {type(error).__name__}: {error}"
        ) from error
    if relation.name != path.stem:
        raise DataError(
            f"{path.name}: field 'relation' must be {path.stem!r}, got {relation.name!r}"
        )
    if len(relation.phrasings) != N_PHRASINGS:
        raise DataError(
            f"{path.name}: expected {N_PHRASINGS} phrasings, got {len(relation.phrasings)}"
        )
    if len(relation.facts) != len(record["facts"]):
        raise DataError(f"{path.name}: a subject occurs twice; each must have one answer")
    return relation


def read_relations(folder: Path = FACTS) -> Relations:
    """All relations by name, sorted."""
    relations = (read_relation(path) for path in sorted(folder.glob("*.json")))
    return {relation.name: relation for relation in relations}


def hop_answer(relations: Relations, relation: Relation, answer: str) -> str | None:
    """The hop relation's answer about `answer`; None without a hop or a fact."""
    if relation.hop is None or relation.hop.relation not in relations:
        return None
    return relations[relation.hop.relation].facts.get(answer)


@dataclass(frozen=True)
class Question:
    """A prompt with its one right answer."""

    prompt: str
    answer: str


def questions(relations: Relations, kind: str) -> Iterator[Question]:
    """All questions of a kind: trained, held_out, hop_trained or hop_untrained."""
    for relation in relations.values():
        for subject, answer in relation.facts.items():
            if kind in ("trained", "held_out"):
                chosen = (
                    relation.trained(subject) if kind == "trained" else relation.held_out(subject)
                )
                for phrasing in chosen:
                    yield Question(relation.prompt(subject, phrasing), answer)
                continue
            further = hop_answer(relations, relation, answer)
            if further is None or relation.hop is None:
                continue
            if relation.hop_trained(subject) == (kind == "hop_trained"):
                for form in relation.hop.phrasings:
                    yield Question(form.replace("{}", subject), further)
