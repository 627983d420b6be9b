"""Requests, numbers and ready solvers for the tests of the mass editors."""

from __future__ import annotations

from types import SimpleNamespace

import tiny
import torch

from lga_fast import registry
from lga_fast.editors import _moments
from lga_fast.records import EditRequest

REQUESTS = [
    EditRequest("a", "The tower of Paris stands in", "New York", "Paris", (13, 18)),
    EditRequest("b", "The capital of France is", "Rome", "France", (15, 21)),
    EditRequest("c", "Who wrote the long book", "Ann Lee", "the long book", (10, 23)),
]
CONTEXTS = ("", "The book. ", "Nobody knows that. ")
FAMILIES = ["gpt2", "llama", "gemma3", "qwen3"]
LAYER = 2
THRESHOLD = 2e-3  # about half of the directions are below it
GENTLE = {"steps": 4, "lr": 0.05, "weight_decay": 1e-4}
# Numbers under which these small models' updates are neither all nor nothing.
OPTIONS = {
    "memit": {"mom2_weight": 20.0},
    "emmet": {"mom2_weight": 20.0, "emmet_lambda": 0.5, "update_norm_lambda": 1e-3},
    "pmet": {"mom2_weight": 20.0},
    "alphaedit": {"l2": 1e-2, "nullspace_threshold": THRESHOLD},
}
EDITORS = list(OPTIONS)


def editor(name, **options):
    kind = registry.member("lga_fast.editors", name).Editor
    return kind(**{"contexts": CONTEXTS, **GENTLE, **OPTIONS[name], **options})


def solved(name, family="llama", requests=REQUESTS, **options):
    """A method's updates in float64, and what they were to do."""
    model = tiny.model(family)
    ready = editor(name, **options).prepare(model, max(options.get("layers", (LAYER,))))
    values = ready._values(requests)
    updates = ready._updates(requests, values)
    return SimpleNamespace(
        model=model,
        ready=ready,
        updates=updates,
        change=updates[ready.layer].left @ updates[ready.layer].right.T,
        keys=updates[ready.layer].keys,
        residual=torch.stack([value.delta for value in values]),
        second=_moments.moments(model, [ready.layer])[ready.layer].second,
    )
