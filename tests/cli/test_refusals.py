"""What a command refuses before it loads a model."""

from __future__ import annotations

import pytest
from running import run

from lga_fast.commands import _inputs

OUT = "/proc/nowhere"  # no one can write there


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Refusals come before a model is loaded."""
    monkeypatch.setattr(_inputs, "load", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("select --proxy 0", "0 is not in the range x>=1"),
        ("select --seed -1", "-1 is not in the range 0<=x"),
        ("evaluate --seed 99999999999999999999", "is not in the range 0<=x"),
        ("evaluate --limit 0", "0 is not in the range x>=1"),
        ("evaluate --layer -1", "-1 is not in the range x>=0"),
        ("edit --proxy 0", "0 is not in the range x>=1"),
        ("study golden --jobs 0", "0 is not in the range x>=1"),
        (f"select --out {OUT}", "expected a folder that can be written"),
        (f"select --resume {OUT}", "expected a folder that can be written"),
        (f"edit --out {OUT}", "expected a folder that can be written"),
        (f"edit --merge {OUT}", "expected a folder that can be written"),
        (f"edit --peft {OUT}", "expected a folder that can be written"),
        (f"evaluate --out {OUT}", "expected a folder that can be written"),
        (f"study golden --out {OUT}", "expected a folder that can be written"),
        ("select --selector fixed --tukey 1", "selector 'fixed' has no option tukey"),
        ("select --selector lga,salem --window 1", "none of the selectors lga, salem has"),
        ("edit --editor rome --l2 1", "editor 'rome' has no option l2"),
        ("evaluate --metric-option rewrite.x=1", "metric 'rewrite' has no option x"),
        ("evaluate --metric-option rewrite.x=[", "rewrite.x: expected a value in YAML, got '['"),
    ],
)
def test_it_is_refused_in_one_paragraph(arguments, message):
    text = run(*arguments.split(), ok=False)
    assert message in " ".join(text.split()) and "Traceback" not in text
