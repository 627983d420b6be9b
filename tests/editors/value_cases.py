"""What the tests of the optimised values share."""

from __future__ import annotations

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
