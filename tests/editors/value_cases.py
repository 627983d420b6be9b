"""What the tests of the optimised values share."""

from __future__ import annotations

import torch

from lga_fast.editors import _value_solver
from lga_fast.records import EditRequest

REQUEST = EditRequest("a", "The tower of Paris stands in", "New York", "Paris", (13, 18))
REQUESTS = [
    REQUEST,
    EditRequest("b", "The capital of France is", "Rome", "France", (15, 21)),
    EditRequest(
        "c", "Nobody knows Ann Lee who wrote the long book", "English", "Ann Lee", (13, 20)
    ),
]
CONTEXTS = ("", "The book. ", "Nobody knows that. ")
LAYER = 2
HOW = _value_solver.Optimisation(steps=6, weight_decay=1e-3)


def read_keys(model, layer, rows):
    """Inputs and outputs of a layer's edited matrix at the last token of each row, one by one."""
    seen = []
    handle = model.matrix(layer, model.family.edited).register_forward_hook(
        lambda module, args, output: seen.append([x.flatten(0, -2)[-1] for x in (*args, output)])
    )
    with torch.no_grad(), model.frozen():
        for ids in rows:
            model.hf(torch.tensor([ids]), use_cache=False)
    handle.remove()
    return [torch.stack(side) for side in zip(*seen, strict=True)]
