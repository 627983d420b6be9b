"""Requests and cheap options of an editor, for small random models."""

from __future__ import annotations

from typing import Any

from lga_fast.records import EditRequest, Probe

REQUESTS = [
    EditRequest(
        "a",
        "The capital of France is",
        "Rome",
        "France",
        (15, 21),
        probes=(
            Probe("rephrase", "rephrase", "France has the capital", "Rome"),
            Probe("locality", "near", "The capital of Italy is", "Rome, as everyone knows"),
        ),
    ),
    EditRequest("b", "The tower of Paris stands in", "New York", "Paris", (13, 18)),
    EditRequest(
        "c",
        "The mother tongue of Ann Lee is",
        "French",
        "Ann Lee",
        (21, 28),
        probes=(Probe("locality", "far", "The book is long, as", "everyone knows"),),
    ),
]
NO_SUBJECT = EditRequest("d", "Nobody remembers the", "answer")
CHEAP: dict[str, Any] = {"steps": 4, "clamp": 20.0, "contexts": ["The book. "]}
