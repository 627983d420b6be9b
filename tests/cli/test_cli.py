"""The command line, run as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from running import run

from lga_fast import evaluate, load, load_edits, registry
from lga_fast.commands import _inputs
from lga_fast.datasets import split
from lga_fast.errors import DataError, LgaFastError
from lga_fast.records import LayerRanking

SELECTORS = registry.names("lga_fast.selectors")


def test_select_shows_the_chart_and_writes_files(saved_model, facts, tmp_path):
    out = tmp_path / "out"
    text = run("select", "--model", saved_model, "--data", facts, "--proxy", 4, "--out", out)
    assert "golden layer" in text and "4 proxy facts from jsonl (facts.jsonl)" in text
    ranking = LayerRanking.from_json((out / "ranking.json").read_text())
    assert ranking.requests == 4 and len(ranking.scores) == 5
    assert {p.name for p in out.iterdir()} == {"ranking.json", "layers.png", "layers.svg"}
    made = ranking.provenance
    assert made["options"]["seed"] == 42 and made["data"]["sha256"] and made["kernel"]


def test_without_matplotlib_the_ranking_is_written(saved_model, facts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = run("select", "--model", saved_model, "--data", facts, "--out", tmp_path / "out")
    assert text.endswith("out: ranking.json\nFor figures: pip install 'lga-fast[plot]'\n")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["ranking.json"]


def test_two_runs_give_the_same_bits_and_the_seed_draws_the_facts(saved_model, facts):
    def ranking(*more):
        text = run("select", "--model", saved_model, "--data", facts, "--proxy", 3, "--json", *more)
        return LayerRanking.from_json(text)

    assert ranking().scores == ranking().scores != ranking("--seed", 1).scores
    edits = load_edits("jsonl", facts)
    drawn = {fact.case_id for fact in split(edits, 3, 1).proxy}
    assert {*ranking("--seed", 1).case_ids} == drawn != {*ranking().case_ids}
    with pytest.raises(DataError, match="3 of 6 requests are among the 3 proxy facts"):
        evaluate(load("atlas"), edits, layer=ranking(), proxy=ranking().case_ids)


def test_options_of_selectors_are_options_of_the_command(saved_model, facts):
    where = ("--model", saved_model, "--data", f"jsonl={facts}")
    text = run("select", *where, "--selector", "fixed", "--layer", 2, "--json")
    assert (json.loads(text)["layer"], json.loads(text)["case_ids"]) == (2, [])
    text = run("select", *where, "--scope", "edited_only", "--tukey", 0.5, "--skip-known", "--json")
    options = json.loads(text)["provenance"]["options"]
    assert (options["scope"], options["tukey"], options["skip_known"]) == ("edited_only", 0.5, True)


def test_several_selectors_at_once(saved_model, facts, tmp_path):
    names, out = ["lga", "salem", "cma"], tmp_path / "out"
    where = ("--model", saved_model, "--data", facts, "--proxy", 3, "--selector", ",".join(names))
    text = run("select", *where, "--out", out, "--window", 2)
    assert [text.index(f"{name}: layer") for name in names] == sorted(
        text.index(f"{name}: layer") for name in names
    )
    kinds = ("ranking-{}.json", "layers-{}.png", "layers-{}.svg")
    assert {p.name for p in out.iterdir()} == {k.format(name) for name in names for k in kinds}
    found = json.loads(run("select", *where, "--json", "--window", 2))
    assert list(found) == names and found["cma"]["provenance"]["options"]["window"] == 2
    for name in names:
        alone = LayerRanking.from_json((out / f"ranking-{name}.json").read_text())
        assert alone.selector == name and list(alone.scores) == found[name]["scores"]
        assert alone.provenance["options"]["seed"] == 42


def test_help_says_whose_an_option_is():
    text = " ".join(run("select", "--help").split())
    kinds = {name: registry.member("lga_fast.selectors", name).Selector for name in SELECTORS}
    fenced = [name for name in SELECTORS if "tukey" in kinds[name].__dataclass_fields__]
    assert {"lga", "lga_new"} <= set(fenced) < set(SELECTORS)
    assert f"{', '.join(fenced)}: Fence constant" in text and "cma: Noisy runs of" in text


def test_help_has_the_default_of_each_member():
    text = " ".join(run("edit", "--help").split())
    assert "Adam's learning rate. [default: 0.5]" in text
    assert (
        "Forward passes of the optimisation; some families have another default. "
        "[default: 25; pmet: 20]"
    ) in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere.json"], "nowhere.json: there is no such file"),
        (["--data", "zsre"], "'zsre' does not come with lga_fast; give the path"),
        (["--selector", "lgb"], "'lgb' is not one of"),
        (["--selector", "lga,lgb"], "'lgb' is not one of"),
        (["--proxy", "0"], "0 is not in the range x>=1"),
        (["--model", "atlas-bert"], "no embedded model 'atlas-bert'"),
        (["--selector", "fixed", "--tukey", "1"], "selector 'fixed' has no option tukey"),
    ],
)
def test_errors_are_one_paragraph(arguments, message, facts, saved_model):
    base = {"--data": facts, "--model": saved_model}
    base |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    text = run("select", *[part for pair in base.items() for part in pair], ok=False)
    assert message in text and "Traceback" not in text


@pytest.mark.parametrize("command", ["select", "edit", "evaluate"])
def test_a_model_is_loaded_as_the_options_say(command, monkeypatch):
    asked = {}

    def load(source, **how):
        asked.update(how, source=source)
        raise LgaFastError("that is all")

    monkeypatch.setattr(_inputs, "load", load)
    how = "--model org/name --dtype bfloat16 --revision v2 --attn-implementation eager"
    run(command, *how.split(), "--trust-remote-code", "--chat", ok=False)
    assert asked == {
        "source": "org/name",
        "device": None,
        "dtype": "bfloat16",
        "weights": "resident",
        "memory_budget": None,
        "chat": True,
        "revision": "v2",
        "trust_remote_code": True,
        "allow_pickle": False,
        "attn_implementation": "eager",
    }


def test_list_names_every_member():
    text = run("list")
    for package in ("selectors", "editors", "metrics", "datasets", "models.families"):
        for name in registry.names(f"lga_fast.{package}"):
            assert name in text


HEAVY = {"torch", "transformers", "matplotlib", "scipy", "numpy"}
IMPORTS = f"""
import sys
from lga_fast.cli import main
try:
    main(sys.argv[1:], prog_name="lga-fast")
finally:
    print("imported:", *sorted({HEAVY} & set(sys.modules)))
"""


def printed_and_imported(*arguments, **environment):
    """What a command prints, and which heavy libraries it imports."""
    command = [sys.executable, "-c", IMPORTS, *arguments]
    environment = {**os.environ, **environment}
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    printed, _, imported = text.stdout.rpartition("imported:")
    return printed, imported.split()


@pytest.mark.parametrize("name", registry.names("lga_fast.commands"))
def test_help_imports_no_heavy_library(name):
    printed, imported = printed_and_imported(name, "--help")
    assert printed.startswith(f"Usage: lga-fast {name}") and not imported


def test_the_list_of_commands_and_of_members_imports_no_heavy_library():
    printed, imported = printed_and_imported("--help")
    for name in registry.names("lga_fast.commands"):
        assert f"\n  {name} " in printed
    assert "from a few proxy facts, without making" in printed and not imported
    assert printed_and_imported("list")[1] == []
    assert "torch" in printed_and_imported("--version")[1], "the check can fail"


def test_completion_imports_no_heavy_library():
    typed = {"_LGA_FAST_COMPLETE": "bash_complete", "COMP_WORDS": "lga-fast select --sel"}
    printed, imported = printed_and_imported(**typed, COMP_CWORD="2")
    assert printed == "plain,--selector\n" and not imported


def test_an_unknown_command_is_refused():
    assert "No such command 'choose'" in run("choose", ok=False)


def test_version_says_which_kernels_serve():
    text = run("--version")
    assert text.startswith("lga_fast ") and "cpu: " in text and "cuda: " in text
