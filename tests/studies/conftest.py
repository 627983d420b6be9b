"""What studies run on in tests: a small random model and few facts."""

from __future__ import annotations

import json

import pytest
import tiny

from lga_fast.datasets import easyedit_requests
from lga_fast.studies import Setting, _trials
from tests.studies.facts import CHEAP, NO_SUBJECT, REQUESTS

LAYERS = 3


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """Makes settings of one proxy and two test facts, whatever model they name."""
    monkeypatch.setattr(_trials, "load", lambda source, **_: tiny.model("gpt2", n_layer=LAYERS))
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CHEAP))

    def make(requests=(*REQUESTS, NO_SUBJECT), **changes) -> Setting:
        data = {"facts": easyedit_requests(requests)}
        given = {"proxy": 1, "test": 2, "config": str(config), "data": data} | changes
        return Setting(out=tmp_path / "out", models=("tiny",), **given)

    return make
