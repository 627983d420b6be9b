"""Requests, evaluations of them, and what two runs of the same have in common."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
import torch

import lga_fast
from lga_fast.evaluation import evaluate as evaluating
from lga_fast.metrics import choose, measure_cases
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest, Probe

CITIES = ("France", "Italy", "Berlin", "Vienna", "New York", "Paris", "Rome")
OPTIONS = {"layer": 1, "contexts": ("The book. ",), "steps": 4}
TIMES = ("seconds_edit", "seconds_measure", "peak_bytes")


def tiny_model(family: str = "gpt2") -> EditableModel:
    return tiny.model(family, torch.float32)


def request(i: int) -> EditRequest:
    city = CITIES[i % len(CITIES)]
    prompt = f"The tower of {city} {'and so on ' * (i % 3)}stands in"
    probes = [
        Probe("rephrase", "rephrase", f"In {city} everyone knows the tower of", ""),
        Probe("locality", "one", "The capital of Italy is", "Rome, as everyone knows"),
        Probe("locality", "two", f"The mother tongue of Ann Lee {i} is", "English"),
        Probe("portability", "hop", "Who wrote the long book? A:", "Nobody remembers"),
    ]
    kept = tuple(probes[: 4 - i % 3])
    target = ("Ann Lee", "French", "Nobody")[i % 3]
    start = prompt.index(city)
    return EditRequest(f"case {i}", prompt, target, city, (start, start + len(city)), probes=kept)


REQUESTS = [request(i) for i in range(5)]


def evaluate(model, requests=REQUESTS, **options):
    return lga_fast.evaluate(model, requests, **OPTIONS | options)


def values(model, requests, before=None):
    return measure_cases(model, requests, None, choose(evaluating.METRICS), before)


def untimed(results):
    """Results without what differs between runs of the same."""
    return [{k: v for k, v in vars(r).items() if k not in TIMES} for r in results]


def lines_of(path: Path) -> list[dict]:
    """The lines of a file of results, without what differs between runs of the same."""
    text = path.read_text()
    assert text.endswith("\n")
    rows = [json.loads(line) for line in text.splitlines()]
    rows[0]["made"] = [{"cases_before": at["cases_before"]} for at in rows[0]["made"]]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
