"""Models without a family file: guessed where autograd confirms it, refused with help elsewhere."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest
import tiny
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BloomConfig,
)

import lga_fast
from lga_fast.errors import UnsupportedModel
from lga_fast.models import EditableModel, families
from lga_fast.models.family_guess import NotUnderstood, guess
from lga_fast.models.module_lookup import find_matrices
from lga_fast.records import EditRequest

FACT = EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris")


def unknown(family: str, dtype: torch.dtype = torch.float32):
    """A small model of a type that nobody has heard of."""
    hf = tiny.model(family, dtype).hf
    config = type("NewConfig", (type(hf.config),), {"model_type": "new"})
    hf.config.__class__ = config
    return hf


@pytest.mark.parametrize("family", tiny.names())
def test_the_guess_is_what_the_family_file_says(family):
    """Or it is refused; the vision tower of a wrapper is not taken for the decoder."""
    known = tiny.model(family)
    if any(path in dict(known.part(0, "block").named_modules()) for path in known.family.others):
        with pytest.raises(NotUnderstood, match=r"something beside it: .*per_layer_projection"):
            guess(known.hf)
        return
    guessed = guess(known.hf)
    assert guessed.packs is False and guessed.decoding == "equal"
    for field in ("blocks", "final_norm", "orientation"):
        assert getattr(guessed, field) == getattr(known.family, field), field
    model = copy(known)
    model.family = guessed
    model._matrices, model._experts = find_matrices(known._blocks, guessed, family)
    assert model._matrices == known._matrices and model.whole_mlps == known.whole_mlps
    assert {i: e.module for i, e in model._experts.items()} == {
        i: e.module for i, e in known._experts.items()
    }
    factors = ("granite", "granitemoehybrid", "minimax")  # no modules, so that no guess can see it
    factor = known.family_name in factors
    assert guessed.post_mlp_norm == (known.family.post_mlp_norm and not (factor and guessed.mlp))
    for layer in range(known.layers):
        assert model.part(layer, "attention") is known.part(layer, "attention")
        if layer in known.whole_mlps:
            output = model.part(layer, "mlp"), known.part(layer, "mlp")
            assert output[0] in output[1].modules() or output[1] in output[0].modules()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_guessed_model_scores_as_a_known_one_and_says_so(dtype):
    hf = unknown("gemma2", dtype)
    known = tiny.model("gemma2", dtype)
    flags = [p.requires_grad for p in hf.parameters()]
    model = EditableModel(hf, known.tokenizer, "x")
    assert flags == [p.requires_grad for p in hf.parameters()] and hf.training
    assert all(p.grad is None for p in hf.parameters())
    assert not any(m._forward_hooks for m in hf.modules())
    assert model.family_name == "new" and "down mlp.down_proj) were guessed" in model.family_guess
    got, want = (lga_fast.score_layers(m, [FACT], old="ground_truth") for m in (model, known))
    assert got.provenance["family_guess"] == model.family_guess
    assert want.provenance["family_guess"] is None
    if dtype == torch.float32:
        np.testing.assert_allclose(got.per_request(), want.per_request(), rtol=1e-4)
        ranking = lga_fast.select_layer(model, [FACT], old="ground_truth")
        assert ranking.notes[0] == model.family_guess


def test_an_embedding_of_padding_that_is_zero_confuses_no_guess():
    """Norms of queries and keys have no gradient there."""
    hf = unknown("gemma4_text-plain")
    embedding = hf.get_input_embeddings().weight
    with torch.no_grad():
        embedding[0] = 0
    ids = torch.arange(7).unsqueeze(0)
    hf(ids, use_cache=False).logits.logsumexp(-1).sum().backward()
    assert embedding.grad is not None and embedding.grad.isnan().any()
    EditableModel(hf, tiny.byte_level(), "new")


def test_an_mlp_that_adds_the_stream_is_not_where_an_editor_works():
    config = BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4)
    hf = AutoModelForCausalLM.from_config(config)
    model = EditableModel(hf, tiny.byte_level(), "bloom")
    assert model.family.matrices["down"] == "mlp.dense_4h_to_h" == model.family.mlp
    assert 0 <= int(lga_fast.select_layer(model, [FACT])) < 2


class _Twice(nn.Linear):
    """Looks linear, computes something else with its weight."""

    def forward(self, x):
        return 2 * super().forward(x)


def _break(hf: nn.Module, change: str) -> None:
    block = hf.model.layers[4]
    if change == "computes":
        block.mlp.up_proj = _Twice(32, 48, bias=False)
    elif change == "lacks":
        del block.mlp.up_proj
        block.mlp.forward = lambda x: block.mlp.down_proj(block.mlp.gate_proj(x))
    elif change == "shares":
        hf.model.layers[3].mlp.up_proj = block.mlp.up_proj
    elif change == "not causal":
        hf.model.norm.register_forward_hook(lambda m, a, out: out + out.mean(1, keepdim=True))
    elif change == "more":
        for layer in hf.model.layers:
            layer.mlp.extra = nn.Parameter(torch.zeros(3, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("computes", r"taps on mlp.up_proj of layer 4 give a gradient that differs .* by 5.0e-01"),
        ("lacks", r"the up matrix is at mlp.up_proj or at mlp.gate_proj"),
        ("shares", r"layer 4, matrix 'up' ran twice"),
        ("more", r"block 0 has weights that are in no mixer, .* router: mlp.extra \(3, 3\)"),
        ("not causal", r"a token's logits depend on later tokens"),
    ],
)
def test_what_autograd_does_not_confirm_is_refused(change, message):
    hf = unknown("llama")
    _break(hf, change)
    with pytest.raises(UnsupportedModel, match=message):
        EditableModel(hf, tiny.byte_level(), "x")


def test_a_refusal_shows_the_block_and_what_a_file_needs():
    hf = unknown("mixtral")
    for layer in hf.model.layers:
        layer.mlp.more = nn.Linear(32, 7)
    with pytest.raises(UnsupportedModel) as caught:
        EditableModel(hf, tiny.byte_level(), "x")
    message = str(caught.value)
    assert "no family file for model_type 'new'. Known: cohere, deepseek_v3, ernie4_5" in message
    assert "router: mlp.more.weight (7, 32).\n" in message
    assert "model.layers.0 (MixtralDecoderLayer) holds\n" in message
    assert "  self_attn.q_proj: Linear weight (32, 32)\n" in message
    assert (
        "  mlp.experts: MixtralExperts gate_up_proj (4, 96, 32), down_proj (4, 32, 48)" in message
    )
    assert "write models/families/new.py" in message
    code = message[message.index("from lga_fast") :]
    scope: dict = {}
    exec(code.replace("...", "'x'"), scope)
    assert isinstance(scope["FAMILY"], families.ModelFamily)
    assert scope["FAMILY"].blocks == "model.layers"
    assert scope["FAMILY"].experts == "mlp.experts"


@pytest.mark.parametrize(
    ("wrapper", "text"), [("mistral3", "mistral"), ("llava", "llama"), ("internvl", "qwen2")]
)
def test_a_known_decoder_inside_a_wrapper_is_known(wrapper, text):
    known, sizes = tiny.model(text, torch.float32), {"image_size": [8, 8], "patch_size": [4, 4]}
    vision = tiny.config("gemma3").vision_config.to_dict() | {"head_dim": 8, "model_type": None}
    vision |= sizes if wrapper == "internvl" else {}
    del vision["model_type"]
    config = AutoConfig.for_model(
        wrapper,
        text_config=known.hf.config.to_dict(),
        vision_config=vision,
        tie_word_embeddings=False,
    )
    hf = AutoModelForImageTextToText.from_config(config)
    hf.model.language_model.load_state_dict(known.hf.model.state_dict())
    hf.lm_head.load_state_dict(known.hf.lm_head.state_dict())
    model = EditableModel(hf, known.tokenizer, "x")
    assert model.family_name == text and not model.family_guess
    assert model.family.blocks == "model.language_model.layers" and not model.takes_masks
    got, want = (lga_fast.score_layers(m, [FACT], old="ground_truth") for m in (model, known))
    np.testing.assert_allclose(got.per_request(), want.per_request(), rtol=1e-4, atol=1e-6)
    edit = lga_fast.edit(model, [FACT], "r_rome", layer=2, steps=1, contexts=[])
    assert list(edit.deltas) == ["model.language_model.layers.2.mlp.down_proj.weight"]
