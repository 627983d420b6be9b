"""What to query besides an edit's prompt: a rephrasing, and unrelated facts.

The atlas's facts are about the real world, so they suit any model.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from lga_fast.atlas.relations import N_PHRASINGS, Relation, read_relations
from lga_fast.metrics import Question, score
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, Probe

UNRELATED = 2


def completed(
    model: EditableModel, request: EditRequest, rephrase: str | None, seed: int
) -> EditRequest:
    """`request`, completed with a rephrasing and unrelated facts if it has none.

    The rephrasing is `rephrase`, or one of the request's own, or another of the atlas's phrasings
    if the prompt is one of them; otherwise there is none. Unrelated facts are the request's
    locality probes, or two drawn with `seed` from the atlas, preferably ones that the model answers
    correctly.
    """
    relations, probes = read_relations(), list(request.probes)
    kinds = {probe.kind for probe in probes}
    if rephrase is None and "rephrase" not in kinds:
        rephrase = _rephrased(relations, request)
    if rephrase is not None:
        probes.insert(0, Probe("rephrase", "rephrase", rephrase, request.target_new))
    if "locality" not in kinds:
        probes += _unrelated(model, relations, request, seed)
    return replace(request, probes=tuple(probes))


def spread(request: EditRequest, count: int = UNRELATED) -> list[Probe]:
    """`count` locality probes, from as many groups as possible."""
    groups: dict[str, list[Probe]] = {}
    for probe in request.probes:
        if probe.kind == "locality":
            groups.setdefault(probe.group, []).append(probe)
    places = [(i, probe) for group in groups.values() for i, probe in enumerate(group)]
    return [probe for _, probe in sorted(places, key=lambda place: place[0])[:count]]


def _rephrased(relations: Mapping[str, Relation], request: EditRequest) -> str | None:
    """The prompt in a phrasing that the atlas models were never trained on for this subject."""
    subject = request.subject or ""
    for relation in relations.values():
        prompts = [relation.prompt(subject, i) for i in range(N_PHRASINGS)]
        if request.prompt in prompts:
            held_out = [prompts[i] for i in relation.held_out(subject)]
            return next(prompt for prompt in held_out if prompt != request.prompt)
    return None


def _unrelated(
    model: EditableModel, relations: Mapping[str, Relation], request: EditRequest, seed: int
) -> list[Probe]:
    """Facts of relations that involve neither the subject nor its answers."""
    edited = {request.subject, request.target_new, request.target_old}
    others = [r for r in relations.values() if edited.isdisjoint({*r.facts, *r.facts.values()})]
    draw = random.Random(seed)
    probes = []
    for relation in draw.sample(others, len(others)):
        subject, answer = draw.choice(list(relation.facts.items()))
        prompt = relation.prompt(subject, draw.choice(relation.trained(subject)))
        probes.append(Probe("locality", "atlas", prompt, answer))
    answered = score(model, [Question(probe.prompt, probe.answer) for probe in probes])
    ranked = sorted(range(len(probes)), key=lambda i: answered[i].accuracy < 1)
    return [probes[i] for i in ranked[:UNRELATED]]
