"""Edits found under streamed weights: the resident edits, with the readings that were promised."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from streaming import both

import lga_fast
from lga_fast.editors import _contexts

FACTS = [
    {"prompt": "The mother tongue of Danielle Darrieux is", "subject": "Danielle Darrieux"}
    | {"target_new": "English", "case_id": "0"},
    {"prompt": "The capital of France is", "subject": "France"}
    | {"target_new": "New York", "case_id": "1"},
]
QUICK: dict[str, Any] = {"layer": 2, "steps": 4, "contexts": ("Berlin. ",)}


def assert_same_edit(got, want):
    assert list(got.deltas) == list(want.deltas)
    for name, delta in want.deltas.items():
        assert torch.equal(got.deltas[name].left, delta.left), name
        assert torch.equal(got.deltas[name].right, delta.right), name
    assert got.provenance["losses"] == want.provenance["losses"]


@pytest.mark.parametrize("family", tiny.dense())
def test_every_family_gives_the_resident_edits(family, tmp_path):
    models = both(tmp_path, tiny.model(family, torch.float32))
    models[0].recomputes = True  # so that both run the same arithmetic
    wanted, found = (lga_fast.edit_each(model, FACTS, "r_rome", **QUICK) for model in models)
    for got, want in zip(found, wanted, strict=True):
        assert_same_edit(got, want)
        assert len(want.provenance["losses"][0]) == 4


@pytest.mark.filterwarnings("ignore:request")
@pytest.mark.parametrize("editor", ["rome", "emmet", "memit", "pmet", "alphaedit"])
def test_every_editor_in_the_arithmetic_that_each_side_has(editor, tmp_path, monkeypatch):
    """Second moments too: they are kept apart."""
    models = both(tmp_path / "model", tiny.model("llama", torch.float32), dtype="float64")
    options = QUICK | {"mom2_tokens": 600}
    if editor == "rome":
        options |= {"mom2_adjustment": True}
    elif editor == "memit":
        options |= {"layers": (1, 2)}
    edits = []
    for i, model in enumerate(models):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{i}"))
        edits.append(lga_fast.edit(model, FACTS, editor, **options))
    wanted, found = edits
    for name, want in wanted.deltas.items():
        got = found.deltas[name]
        exact, product = want.left @ want.right.T, got.left @ got.right.T
        assert (product - exact).norm() <= 1e-6 * exact.norm()  # factors are float32


@pytest.mark.parametrize("family", ["gpt2", "mistral", "falcon"])
def test_contexts_are_the_resident_ones(family, tmp_path):
    resident, streamed = both(tmp_path, tiny.model(family, torch.float64), dtype="float64")
    before = streamed.shards.bytes_read
    assert _contexts.generate(streamed, lengths=(3, 6), per_seed=2) == _contexts.generate(
        resident, lengths=(3, 6), per_seed=2
    )
    read = streamed.shards.bytes_read - before
    assert read <= 5.2 * (streamed.sweep_bytes() + streamed.head_read_bytes())
