"""Every selector keeps the same contract."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import tiny
import torch

from lga_fast import registry, select_layer
from lga_fast.errors import LgaFastError
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors import GradientSelector, LayerSelector
from lga_fast.selectors._selector import Basis, Cost

NAMES = registry.names("lga_fast.selectors")
EDITS = [
    EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris"),
    EditRequest("b", "The tower stands in", "New York", "tower", (4, 9), "Berlin"),
]
OPTIONS = {"fixed": {"layer": 1}}  # its default is a layer that a small model lacks


@pytest.mark.parametrize("name", NAMES)
def test_a_ranking_is_complete_and_the_model_comes_back(name):
    model = tiny.model("qwen3", torch.float32)
    before = {key: value.clone() for key, value in model.hf.state_dict().items()}
    rng = torch.get_rng_state()
    ranking = select_layer(model, EDITS, name, **OPTIONS.get(name, {}))
    assert ranking.selector == name and 0 <= int(ranking) < model.layers
    assert len(ranking.scores) == model.layers and ranking.order[0] == ranking.layer
    assert sorted((*ranking.order, *ranking.excluded)) == list(range(model.layers))
    for key in ("lga_fast", "torch", "model_fingerprint", "dtype", "device", "kernel", "options"):
        assert ranking.provenance[key] is not None, key
    assert LayerRanking.from_json(ranking.to_json()) == ranking
    assert ranking.requests == len(EDITS)
    assert all(torch.equal(before[k], v) for k, v in model.hf.state_dict().items())
    assert model.hf.training and all(p.requires_grad for p in model.hf.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    for module in model.hf.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks and not module._forward_pre_hooks


@pytest.mark.parametrize("name", NAMES)
def test_easyedit_dicts_do_as_well(name):
    dicts = [{"prompt": r.prompt, "subject": r.subject, "target_new": r.target_new} for r in EDITS]
    ranking = select_layer(tiny.model("gpt2"), dicts, name, **OPTIONS.get(name, {}))
    assert ranking.requests == 2


@pytest.mark.parametrize("name", NAMES)
def test_options_have_a_text_and_a_default(name):
    kind = registry.member("lga_fast.selectors", name).Selector
    assert issubclass(kind, LayerSelector) and kind().name == name
    for field in dataclasses.fields(kind):
        assert field.default is not dataclasses.MISSING, field.name
        assert field.metadata["help"].endswith("."), field.name


@pytest.mark.parametrize("name", NAMES)
def test_options_are_checked_and_frozen(name):
    kind = registry.member("lga_fast.selectors", name).Selector
    for field in dataclasses.fields(kind):
        with pytest.raises(LgaFastError):
            kind(**{field.name: object()})
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(kind(), field.name, field.default)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_of_itself_is_known(name):
    selector = registry.member("lga_fast.selectors", name).Selector()
    assert selector.rests_on in get_args(Basis) and selector.cost in get_args(Cost)
    for options in selector.timed_variants.values():
        dataclasses.replace(selector, **options)
    assert isinstance(selector, GradientSelector) <= (selector.pass_options() is not None)
