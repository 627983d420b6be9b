"""MEMIT and its kin: their options, and what they say and refuse."""

from __future__ import annotations

import pytest
import tiny
import torch
from mass import CONTEXTS, LAYER, REQUESTS, editor

import lga_fast
from lga_fast.editors._value_solver import Optimisation
from lga_fast.errors import EditError, LgaFastWarning

pytestmark = pytest.mark.usefixtures("keep_double")


def test_what_there_is_to_know_is_said():
    model = tiny.model("gpt2", torch.float32)
    with pytest.warns(LgaFastWarning) as caught:
        change = lga_fast.edit(
            model, REQUESTS[:1], "memit", layer=4, contexts=CONTEXTS, steps=3, mom2_weight=1e4
        )
    assert [str(w.message) for w in caught] == change.provenance["notes"]
    unmoved, little = change.provenance["notes"]
    assert unmoved.startswith("request 'a': its loss did not fall (")
    assert (
        "a change at layer 4 does not reach the answer, or lr or weight_decay is too large"
        in unmoved
    )
    share = change.provenance["written"]["4"][0]
    assert share < 0.1
    assert little == (
        f"request 'a': only {share:.1%} of its change is written at layer 4; mom2_weight decides "
        "how much"
    )


def test_layers_must_end_at_the_layer():
    model = tiny.model("gpt2", torch.float32)
    for layers in ((1, 2), (3, 4), (3, 3)):
        with pytest.raises(EditError, match=r"layers \[.*the highest is the layer asked for, 3"):
            lga_fast.edit(model, REQUESTS, "memit", layer=3, layers=layers, contexts=CONTEXTS)
    before = model.hf.register_forward_pre_hook(lambda *_: pytest.fail("work before the check"))
    with pytest.raises(EditError, match="loss_layer 5: tiny-gpt2 has layers 0 to 4"):
        lga_fast.edit(model, REQUESTS, "memit", layer=3, loss_layer=5)
    before.remove()


def test_an_update_that_is_not_finite_is_an_error():
    ready = editor("memit").prepare(tiny.model("gpt2", torch.float32), LAYER)
    keys, residual = torch.ones(2, 48).double(), torch.ones(2, 32).double()
    for bad in (keys * torch.inf, keys * torch.nan):
        with pytest.raises(EditError, match="layer 2: the update of 2 requests is not finite"):
            ready.update(LAYER, bad, residual)
    with pytest.raises(EditError, match="is not finite"):
        ready.update(LAYER, keys, residual * 1e300)


def test_contexts_are_one_of_ten_tokens_for_each_seed_word():
    model = tiny.model("gpt2", torch.float32)
    ready = editor("memit", contexts=None).prepare(model, LAYER)
    assert ready.contexts[0] == "" and len(ready.contexts) == 6
    assert ready.weights.tolist() == pytest.approx([0.5] + [0.1] * 5)
    starts = [text.split()[0] for text in ready.contexts[1:]]
    assert all(text.startswith(word) for text, word in zip(starts, "TTBIY", strict=True))
    assert editor("memit", contexts=("",)).prepare(model, LAYER).weights.tolist() == [1.0]
    assert editor("memit", contexts=None, seed=1).prepare(model, LAYER).contexts != ready.contexts


def test_the_fields_are_the_optimisations_numbers():
    numbers = {"steps": 7, "weight_decay": 0.2, "lr": 0.3, "kl_factor": 0.4, "clamp": 0.6}
    numbers |= {"loss_layer": 3}
    for name in ("memit", "emmet", "alphaedit"):
        assert editor(name, **numbers).optimisation() == Optimisation(**numbers)
    wanted = Optimisation(**numbers, nll_factor=0.9, rest_kl=0.01)
    assert editor("pmet", **numbers, nll_factor=0.9).optimisation() == wanted


def test_a_file_of_easyedit_sets_its_layers():
    model = tiny.model("gpt2", torch.float32)
    config = {"alg_name": "MEMIT", "layers": [1, 3], "v_loss_layer": 4, "mom2_update_weight": "3e0"}
    config |= {
        "v_num_grad_steps": 2,
        "v_lr": "5e-2",
        "v_weight_decay": 0,
        "contexts": list(CONTEXTS),
    }
    made = lga_fast.edit(model, REQUESTS, "memit", config=config).provenance
    assert (made["layers"], made["config"]["mom2_weight"]) == ([1, 3], 3.0)
    assert lga_fast.edit(model, REQUESTS, "memit", config=config, layer=2).provenance["layers"] == [
        2
    ]
