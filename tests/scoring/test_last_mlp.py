"""The last MLP: no token after it sees another, so it runs only where the head reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from lga_fast import score_layers
from lga_fast.scoring import batch_layout
from lga_fast.scoring.scoring_pass import ScoringPass

FACTS = [replace(request, target_old="the old one") for request in tiny.REQUESTS]
ARRAYS = ("dot", "norm2_old", "norm2_new", "abs_new", "per_expert")


@pytest.fixture
def tapped(monkeypatch):
    """Tokens of every tap, by layer."""
    tokens: dict[int, list[int]] = {}
    take = ScoringPass._take

    def taking(self, tap, *others):
        tokens.setdefault(tap.layer, []).append(len(tap.a))
        return take(self, tap, *others)

    monkeypatch.setattr(ScoringPass, "_take", taking)
    return tokens


@pytest.mark.parametrize(
    "family", ["gpt2", "gptj", "llama", "gemma3", "mixtral", "qwen2_moe", "opt"]
)
@pytest.mark.parametrize("packs", [True, False])
def test_the_scores_are_those_of_all_tokens(family, packs, tapped, monkeypatch):
    monkeypatch.setattr(batch_layout, "packing_pays", lambda pair: packs)
    model = tiny.model(family)
    few = score_layers(model, FACTS, old="ground_truth", abs_new=True)
    # OPT's has no module of its own.
    assert (2 * max(tapped[model.layers - 1]) < max(tapped[0])) == (family != "opt")
    monkeypatch.setattr(ScoringPass, "_only_where_read", lambda self, layout: False)
    every = score_layers(model, FACTS, old="ground_truth", abs_new=True)
    for name in ARRAYS:
        for parameter, want in getattr(every, name).items():
            got = getattr(few, name)[parameter]
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(few.loss_new, every.loss_new, rtol=1e-12)


@pytest.mark.parametrize("options", [{"loss_scope": "full"}, {"at_subject": True}])
def test_where_more_is_read_it_runs_everywhere(options, tapped):
    model = tiny.model("gpt2")
    score_layers(model, FACTS, old="ground_truth", **options)
    assert max(tapped[model.layers - 1]) == max(tapped[0])
