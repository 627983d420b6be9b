"""From edits to a folder that is served, checked, compared and undone."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner
from running import run
from safetensors.torch import load_file, save_file

from lga_fast import atlas, edit, load
from lga_fast.cli import main

FACTS = [
    {
        "prompt": "The Eiffel Tower is located in the city of",
        "subject": "Eiffel Tower",
        "target_new": "Rome",
        "locality": {"near": {"prompt": "Berlin is a city in", "ground_truth": "Germany"}},
    },
    {
        "prompt": "The author of Of Mice and Men is",
        "subject": "Of Mice and Men",
        "target_new": "Jane Austen",
    },
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and an edit of each fact on it."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copytree(atlas.folder(), folder / "base")
    model = load(folder / "base", device="cpu")
    for name, fact, layer in zip("ab", FACTS, (0, 1), strict=True):
        edit(model, [fact], layer=layer, contexts=(), steps=15).save(folder / f"{name}.safetensors")
    return folder


def test_edits_are_applied_verified_compared_and_undone(folder):
    edits = [folder / "a.safetensors", folder / "b.safetensors"]
    base, out = folder / "base", folder / "out"
    text = run(
        "apply",
        *edits,
        "--model",
        base,
        "--out",
        out,
        "--peft",
        folder / "lora",
        "--combined",
        folder / "both.safetensors",
    )
    assert "2 edits as one" in text and (folder / "lora" / "adapter_config.json").exists()
    both = json.loads(run("info", folder / "both.safetensors", "--json"))
    assert json.loads(run("info", out, "--json")) == both
    assert len(both[0]["requests"]) == 2 and len(both[0]["weights"]) == 2
    text = run("info", *edits, out)
    assert text.count("The author of Of Mice and Men is → Jane Austen") == 2
    checked = run("verify", out, "--edit", edits[0], "--edit", edits[1], "--device", "cpu")
    assert checked.count("as they should be") == 3 and "NOT" not in checked
    assert "2 of 100 tensors differ" in run("diff", base, out)
    found = json.loads(run("diff", base, out, "--json"))
    assert [one["rank"] for one in found["tensors"]] == [1, 1]
    assert "tensors put back: 2" in run("undo", out)
    assert "0 of 100 tensors differ" in run("diff", base, out)
    assert {p.name for p in out.iterdir()} >= {p.name for p in base.iterdir()}


@pytest.mark.parametrize(
    ("edits", "change", "wrong"),
    [
        ("a", None, {"weights": "h.1.mlp.c_proj.weight: differs, and no edit says so"}),
        ("ab", "transformer.h.5.mlp.c_fc.weight", {"weights": "c_fc.weight: differs, and no edit"}),
        ("ab", "transformer.h.0.mlp.c_proj.weight", {"weights": "times as far from the edit as"}),
        ("ab", "transformer.wte.weight", {"new answers": "→ Rome: not answered so"}),
    ],
)
def test_what_is_not_as_it_should_be_is_found(folder, tmp_path, edits, change, wrong):
    run(
        "apply",
        folder / "a.safetensors",
        folder / "b.safetensors",
        "--model",
        folder / "base",
        "--out",
        tmp_path / "out",
    )
    if change:
        file = tmp_path / "out" / "model.safetensors"
        tensors = load_file(file)
        tensors[change] = tensors[change].flip(0)
        save_file(tensors, file, {"format": "pt"})
    chosen = [x for name in edits for x in ("--edit", folder / f"{name}.safetensors")]
    done = CliRunner().invoke(
        main, [str(x) for x in ("verify", tmp_path / "out", *chosen, "--json", "--device", "cpu")]
    )
    assert done.exit_code == 1
    found = json.loads(done.stdout)["wrong"]
    for name, message in wrong.items():
        assert any(message in problem for problem in found[name]), found


def test_bad_input_is_refused_before_work_starts(folder, tmp_path):
    one = folder / "a.safetensors"
    for arguments, message in (
        (("apply", one), "say where to write: --out, --peft or --combined"),
        (("apply", one, "--out", folder), "expected a new or empty folder"),
        (
            ("apply", one, "--model", "atlas-llama", "--combined", tmp_path / "x"),
            "no such matrix|MLP matrix",
        ),
        (("info", folder / "base"), "expected the record that lga-fast writes beside"),
        (("undo", folder / "base"), "expected the record"),
        (("verify", folder / "base", "--edit", one), "expected the record"),
        (("diff", folder / "base", folder), "expected"),
    ):
        text = " ".join(run(*arguments, ok=False).split())
        assert any(part in text for part in message.split("|")), text
    assert not (tmp_path / "x").exists()
