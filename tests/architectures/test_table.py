"""docs/architectures.md says of each architecture what is so; `tools/architectures.py` wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from tests.architectures.configs import NAMES
from tests.architectures.outcomes import try_out

TABLE = Path(__file__).parents[2] / "docs" / "architectures.md"
# Dense, latent attention and experts, states, layers without an MLP, keys of other layers,
# several residual streams, a config that counts other layers; and refusals: two MLPs, no decoder,
# not causal.
SAMPLE = [
    "apertus",
    "axk1",
    "jamba",
    "nemotron_h",
    "recurrent_gemma",
    "olmo_hybrid",
    "gemma3n_text",
]
SAMPLE += ["whisper", "longcat_flash", "bert", "xlnet", "deepseek_v4"]


def rows() -> dict[str, tuple[str, str]]:
    lines = TABLE.read_text("utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][2:]
    return {name: (outcome, about) for name, outcome, about in cells}


def test_every_architecture_works_or_is_refused_with_a_reason():
    table, text = rows(), TABLE.read_text("utf-8")
    assert {outcome for outcome, _ in table.values()} == {"works", "refused", "not tried"}
    assert all(about for _, about in table.values())
    for kind in ("works", "refused"):
        assert sum(outcome == kind for outcome, _ in table.values()) > 20
    if f"transformers {transformers.__version__}:" in text:
        assert sorted(table) == NAMES


def test_readme_counts_as_the_table_does():
    outcomes = [outcome for outcome, _ in rows().values()]
    works, refused = outcomes.count("works"), outcomes.count("refused")
    said = " ".join((TABLE.parents[1] / "README.md").read_text("utf-8").split())
    assert f"Of {works + refused} architectures](docs/architectures.md) {works} work" in said
    assert f"{refused} are refused with a reason" in said
    whole = [about for outcome, about in rows().values() if outcome == "works"]
    streamed = sum("not streamed" not in about for about in whole)
    assert f"{works} work, {streamed} of them streamed as well" in said


@pytest.mark.parametrize("name", [name for name in SAMPLE if name in NAMES])
def test_a_sample_is_as_the_table_says(name):
    outcome = try_out(name)
    assert ("works" if outcome.works else "refused", outcome.about) == rows()[name]
