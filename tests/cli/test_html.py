"""--html: one page of what a command prints, refused before the work where it cannot be made."""

from __future__ import annotations

import pytest
from running import run

pytestmark = pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
QUICK = ("--steps", 2, "--contexts", "Berlin. ")


@pytest.fixture
def on_tiny(saved_model, facts):
    return ("--model", saved_model, "--data", facts)


def test_every_command_writes_its_page(on_tiny, tmp_path):
    page, out = tmp_path / "page.html", ("--out", tmp_path / "out")
    for command, *more, part in (
        ("select", "--selector", "lga,salem", "--bootstrap", 9, "Layers by salem"),
        ("edit", "--limit", 1, *QUICK, *out, "Why layer "),
        ("evaluate", "--limit", 2, "--proxy", 3, "--metrics", "rewrite", *QUICK, "Why layer "),
    ):
        printed = run(command, *on_tiny, *more, "--html", page)
        assert f"Page: {page}" in printed
        text = page.read_text()
        assert part in text and f"lga-fast {command} --model=" in text and "<details>" in text
        page.unlink()


def test_a_page_that_cannot_be_written_is_refused_before_the_work(on_tiny, tmp_path):
    text = run("select", *on_tiny, "--html", tmp_path, ok=False)
    assert "is a directory" in text


@pytest.mark.parametrize(("editor", "length"), [("memit", 5), ("emmet", 1)])
def test_layers_auto_is_the_window_that_ends_at_the_chosen_layer(
    editor, length, saved_model, facts, tmp_path
):
    config = tmp_path / "hparams.yaml"
    config.write_text(f"alg_name: {editor.upper()}\nlayers: auto\nmom2_tokens: 200\n")
    both = ("--model", saved_model, "--data", facts, "--editor", editor, "--config", config, *QUICK)
    run("edit", *both, "--limit", 1, "--out", tmp_path)
    import lga_fast

    change = lga_fast.WeightEdit.load(tmp_path / "edit.safetensors")
    last = change.provenance["layer"]
    expected = range(max(0, last - length + 1), last + 1)
    assert len(change.deltas) == len(expected)
    assert all(f".{layer}." in name for layer, name in zip(expected, change.deltas, strict=True))
    out = ("--out", tmp_path / "evaluated")
    run("evaluate", *both, "--limit", 1, "--proxy", 3, "--metrics", "rewrite", *out)
    import json

    made = json.loads((tmp_path / "evaluated" / "summary.json").read_text())["provenance"]
    config, last = made["configuration"]["editor_config"], made["configuration"]["layer"]
    layers = list(range(max(0, last - length + 1), last + 1))
    assert config["layers"] == (layers if len(layers) > 1 else None)
