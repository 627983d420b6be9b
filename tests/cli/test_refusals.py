"""What a command refuses before it loads a model."""

from __future__ import annotations

import pytest
from running import run

from lga_fast.commands import _inputs
from lga_fast.studies import _trials

OUT = "/proc/nowhere"  # no one can write there


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Refusals come before a model is loaded."""
    for module in (_inputs, _trials):
        monkeypatch.setattr(module, "load", lambda *_, **__: pytest.fail("a model was loaded"))


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


@pytest.fixture
def config(tmp_path):
    return tmp_path / "own.yaml"


@pytest.mark.parametrize(
    "command",
    [
        "edit",
        "evaluate",
        "select --selector brute_force",
        "select --selector lga,race",
        "study golden",
    ],
)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 0", "steps: expected a whole number of at least 1, got 0"),
        ("v_lr: [0.5", "expected a config in YAML or JSON: while parsing"),
        ("- steps", "expected keys with values, got ['steps']"),
        ("steps: 3\nv_num_grad_steps: 4", "v_num_grad_steps: steps sets the same"),
        ("alg_name: ROME", "alg_name: it is for 'ROME', but the editor is 'r_rome'"),
        ("fact_token: last", "fact_token: only 'subject_last' is supported, got 'last'"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(command, text, message, config):
    config.write_text(text)
    said = " ".join(run(*command.split(), "--config", config, ok=False).split())
    assert f"{config}: {message}" in said and "Traceback" not in said


@pytest.mark.parametrize("command", ["edit", "evaluate"])
def test_what_the_command_line_overrides_is_not_asked_of_the_config(command, config):
    config.write_text("layers: [1, 2]\nsteps: 0")
    assert "expected one, got [1, 2]" in run(command, "--config", config, ok=False)
    with pytest.raises(pytest.fail.Exception, match="a model was loaded"):
        run(command, "--config", config, "--layer", 1, "--steps", 3)
