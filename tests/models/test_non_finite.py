"""Logits that are NaN or infinite are an error that says which weights or what dtype make them."""

from __future__ import annotations

import pytest
import tiny
import torch
from both_placements import both

import lga_fast
from lga_fast import metrics, score_layers, select_layer
from lga_fast.errors import LgaFastError, NonFinite
from lga_fast.metrics import _generation
from lga_fast.records import EditRequest
from lga_fast.weight_edit import LowRank, WeightEdit

EDITS = [EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris")]
WEIGHT = "transformer.h.2.mlp.c_fc.weight"
WEIGHTS = f"weights hold NaN or infinity: {WEIGHT}; repair them or fetch them again"
USES = {
    **{name: lambda m, n=name: select_layer(m, EDITS, n) for name in ("lga", "lga_new", "salem")},
    **{name: lambda m, n=name: select_layer(m, EDITS, n) for name in ("cma", "reach")},
    "brute_force": lambda m: select_layer(m, EDITS, "brute_force"),
    "data": lambda m: score_layers(m, EDITS, old="ground_truth"),
    "contexts": lambda m: lga_fast.edit(m, EDITS, "r_rome", layer=1),
    "values": lambda m: lga_fast.edit(m, EDITS, "r_rome", layer=1, contexts=("",)),
    "evaluate": lambda m: lga_fast.evaluate(m, EDITS, layer=1),
    "score": lambda m: metrics.score(m, [metrics.Question("Paris is in", "Rome")]),
    "greedy": lambda m: _generation.generate(m, [_generation.Continuation("Paris")]),
    "top5": lambda m: _generation.generate(m, [_generation.Continuation("A", sampler="top5")]),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("use", USES)
def test_a_weight_that_is_not_finite_is_named(use, value):
    """Before: "the model's own answer is empty", or torch's RuntimeError from multinomial."""
    model = tiny.model("gpt2", torch.float32)
    with torch.no_grad():
        model.hf.get_parameter(WEIGHT)[0, 0] = value
    with pytest.raises(NonFinite) as caught:
        USES[use](model)
    assert str(caught.value).endswith(WEIGHTS)
    said = "the loss is nan at step 0" if use == "values" else "'tiny-gpt2': expected finite logits"
    assert said in str(caught.value)


@pytest.mark.parametrize("use", ["lga", "lga_new", "contexts", "score", "greedy"])
def test_streamed_weights_are_named_as_well(use, tmp_path):
    model = tiny.model("gpt2", torch.float32)
    with torch.no_grad():
        model.hf.get_parameter(WEIGHT)[0, 0] = torch.nan
    for placed in both(tmp_path, model):
        with pytest.raises(NonFinite, match=WEIGHTS):
            USES[use](placed)


@pytest.mark.parametrize("use", [name for name in USES if name != "brute_force"])
def test_a_dtype_that_overflows_is_named(use):
    model = tiny.model("gpt2", torch.float16)
    with torch.no_grad():
        model.hf.get_parameter("transformer.h.2.mlp.c_proj.weight").fill_(6e4)
    with pytest.raises(LgaFastError, match="all parameters are finite, so float16 overflows: load"):
        USES[use](model)
    with torch.no_grad():
        model.hf.bfloat16()
    score_layers(model, EDITS)


def test_many_weights_are_named_briefly_and_edits_are_mentioned():
    model = tiny.model("gpt2", torch.float32)
    assert model.why_not_finite().endswith("so float32 overflows: load the model as float64")
    name = model.weight_name(1, "down")
    change = WeightEdit({name: LowRank(torch.ones(32, 1), torch.ones(48, 1))})
    with model.edited(change, force=True):
        assert model.why_not_finite().endswith("as float64, or remove the edits in effect")
    with torch.no_grad():
        for layer in range(5):
            model.matrix(layer, "down").weight.fill_(torch.nan)
    names = ", ".join(model.weight_name(layer, "down") for layer in range(3))
    assert f"{names} and others; repair" in model.why_not_finite()


def test_one_prompt_of_several_is_counted():
    model = tiny.model("gpt2", torch.float32)
    row = model.tokenizer(" Paris")["input_ids"][0]
    with torch.no_grad():
        model.hf.transformer.wte.weight[row] = torch.nan
        model.hf.lm_head.weight = torch.nn.Parameter(torch.randn(400, 32))
    asked = [metrics.Question(text, " x") for text in ("Rome is", "in Paris", "It is")]
    with pytest.raises(NonFinite, match=r"at 2 of 6 positions; .*: transformer.wte.weight; repair"):
        metrics.score(model, asked)
