"""Selectors that read the same gradients share one pass."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from lga_fast import select_layer
from lga_fast.errors import UnknownName
from lga_fast.records import EditRequest
from lga_fast.scoring import batch_layout, score
from lga_fast.selectors import _gradient_selector

EDITS = [
    EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris"),
    EditRequest("b", "The tower stands in", "New York", "tower", (4, 9), "Berlin"),
]
TOGETHER = ["lga", "lga_new", "salem"]


@pytest.mark.usefixtures("keep_double")
@pytest.mark.parametrize("options", [{}, {"loss_scope": "full", "reduction": "sum"}])
def test_one_pass_gives_what_each_gives_alone(monkeypatch, options):
    model, passes = tiny.model("llama"), []

    def counted(*args, **kwargs):
        passes.append(kwargs)
        return score.score_layers(*args, **kwargs)

    monkeypatch.setattr(_gradient_selector, "score_layers", counted)
    rankings = select_layer(model, EDITS, [*TOGETHER, "random_layer"], **options)
    assert list(rankings) == [*TOGETHER, "random_layer"] and len(passes) == 1
    assert passes[0]["old"] == "model" and passes[0]["abs_new"]
    for name in TOGETHER:
        assert rankings[name].provenance["pass_shared_by"] == TOGETHER
        alone = select_layer(model, EDITS, name, **options)
        np.testing.assert_allclose(rankings[name].scores, alone.scores, rtol=1e-10)
        assert rankings[name].order == alone.order
    assert len(passes) == 4 and passes[2]["old"] is None is passes[3]["old"]
    assert [kwargs.get("abs_new", False) for kwargs in passes] == [True, False, False, True]


def test_the_l2_form_of_salem_asks_for_nothing_more():
    model = tiny.model("gpt2")
    rankings = select_layer(model, EDITS, ("lga", "salem"), norm="l2")
    lga = rankings["lga"].provenance
    assert lga["sequence_forwards"] == rankings["salem"].provenance["sequence_forwards"]
    assert score.score_layers(model, EDITS).abs_new == {}


def test_each_takes_the_options_that_it_has():
    model = tiny.model("gpt2")
    rankings = select_layer(model, EDITS, ["lga", "salem", "fixed"], layer=2, tukey=3.0, norm="l2")
    assert int(rankings["fixed"]) == 2
    assert rankings["lga"].provenance["options"]["tukey"] == 3.0
    assert rankings["salem"].provenance["options"]["norm"] == "l2"
    with pytest.raises(UnknownName, match="none of the selectors lga, salem has an option fence"):
        select_layer(model, EDITS, ["lga", "salem"], fence=1)
    with pytest.raises(UnknownName, match="no 'lgb' in selectors"):
        select_layer(model, EDITS, ["lga", "lgb"])


@pytest.mark.parametrize(("packed", "each"), [(False, 4), (True, 3)])
def test_forwards_are_counted(monkeypatch, packed, each):
    """Two rows and their backwards, or a packed row with two; a greedy answer counts as one."""
    model = tiny.model("gpt2")
    monkeypatch.setattr(batch_layout, "packing_pays", lambda pair: packed)

    def count(name, **options):
        made = select_layer(model, EDITS, name, **options).provenance
        return made["sequence_forwards"] / len(EDITS)

    assert count("lga") == each + 1 and count("lga", old="ground_truth") == each
    assert count("lga_new") == count("salem") == 2
