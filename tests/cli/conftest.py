"""What tests of the command line share."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def facts(tmp_path):
    """A file of requests without probes."""
    path = tmp_path / "facts.jsonl"
    rows = [
        {"prompt": f"The capital of {land} is", "subject": land, "target_new": "Rome"}
        for land in ("France", "Italy", "Berlin", "Vienna", "New York", "the tower")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
