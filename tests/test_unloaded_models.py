"""Every public function that takes a model says how to load what is none yet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny
import torch

import lga_fast
from lga_fast import metrics, selectors
from lga_fast.errors import LgaFastError
from lga_fast.evaluation import lm_harness
from lga_fast.export import edit_records
from lga_fast.reports import answers
from lga_fast.sweep.run import sweep
from lga_fast.weight_edit import LowRank, WeightEdit

CHANGE = WeightEdit({"w": LowRank(torch.ones(1, 1), torch.ones(1, 1))})
FACTS = [{"prompt": "Paris lies in", "subject": "Paris", "target_new": "Italy"}]
DOORS = {
    "score_layers": lambda model: lga_fast.score_layers(model, FACTS),
    "select_layer": lambda model: lga_fast.select_layer(model, FACTS, tokenizer=None),
    "edit": lambda model: lga_fast.edit(model, FACTS, layer=0),
    "edit_each": lambda model: lga_fast.edit_each(model, FACTS, layer=0),
    "evaluate": lambda model: lga_fast.evaluate(model, FACTS, layer=0),
    "sweep": lambda model: sweep(model, FACTS),
    "score": lambda model: metrics.score(model, []),
    "generate": lambda model: metrics.generate(model, []),
    "measure_cases": lambda model: metrics.measure_cases(model, FACTS, None, {}),
    "run_tasks": lambda model: lm_harness.run_tasks(model, []),
    "estimate_selection_cost": lambda model: selectors.estimate_selection_cost(model, FACTS),
    "compare": lambda model: answers.compare(model, FACTS, CHANGE),
    "combine": lambda model: edit_records.combine(model, [CHANGE]),
    "to_peft": lambda model: CHANGE.to_peft("never", model),
    "to_model": lambda model: CHANGE.to_model("never", model),
}


@pytest.fixture(scope="module")
def unloaded():
    hf = tiny.model("gpt2").hf
    return {
        "GPT2LMHeadModel": (hf, r"a GPT2LMHeadModel: model = lga_fast.load\(model, tokenizer\)"),
        "text": ("gpt2-xl", r"the text 'gpt2-xl': model = lga_fast.load\('gpt2-xl'\) first"),
        "path": (Path("folder"), r"the text 'folder': model = lga_fast.load\('folder'\) first"),
        "other": (None, r"a NoneType: model = lga_fast.load\(...\) first"),
    }


@pytest.mark.parametrize("door", DOORS)
def test_a_model_that_was_not_loaded_is_refused(door, unloaded):
    for model, message in unloaded.values():
        with pytest.raises(LgaFastError, match=f"that lga_fast.load returned, got {message}"):
            DOORS[door](model)
    assert not Path("never").exists()


def test_no_door_is_left_out():
    """Public functions that say where a model comes from, and all that `lga_fast` exports."""
    package = Path(lga_fast.__file__).parent
    texts = [file.read_text(encoding="utf-8") for file in package.rglob("*.py")]
    function = re.compile(
        r"^ *def (\w+)\((?:(?!^ *def ).)*?model: see `lga_fast\.load`", re.M | re.S
    )
    documented = {name for text in texts for name in function.findall(text)}
    assert {"edit", "score"} <= documented <= DOORS.keys()
    with_model = {
        name
        for name in lga_fast.__all__
        if "model" in getattr(getattr(lga_fast, name), "__annotations__", {})
    }
    assert "edit_each" in with_model and with_model <= DOORS.keys()


def test_a_tokenizer_may_follow_the_model_and_is_one():
    source = tiny.model("gpt2")
    assert lga_fast.load(source.hf, source.tokenizer).tokenizer is source.tokenizer
    with pytest.raises(LgaFastError, match="tokenizer: expected a tokenizer object, got 'gpt2'"):
        lga_fast.load(source.hf, "gpt2")
