"""Modules that compute x Wᵀ with weights packed in some way: scored as what they compute."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

import lga_fast
from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest

FACTS = [
    EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris"),
    EditRequest("b", "The tower stands in", "New York", "tower", (4, 9), "Berlin"),
]


class Int8(nn.Linear):
    """Eight bits a weight in a parameter of integers, as bitsandbytes has it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        rows = linear.weight.data
        self.scale = nn.Buffer(rows.abs().amax(1, keepdim=True) / 127)
        whole = (rows / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(whole.flatten().unsqueeze(1), requires_grad=False)
        self.bias = linear.bias

    def dequantised(self) -> Tensor:
        return self.weight.view(self.out_features, -1).to(self.scale) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.dequantised(), self.bias)


class Int4(nn.Module):
    """Two weights a byte in a buffer, as AWQ has it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        rows = linear.weight.data
        self.scale = nn.Buffer(rows.abs().amax(1, keepdim=True) / 7)
        whole = ((rows / self.scale).round() + 8).to(torch.uint8)
        self.qweight = nn.Buffer(whole[:, ::2] | whole[:, 1::2] << 4)
        self.bias = linear.bias

    def dequantised(self) -> Tensor:
        whole = torch.stack([self.qweight & 15, self.qweight >> 4], 2).flatten(1)
        return (whole.to(self.scale) - 8) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.dequantised(), self.bias)


def quantised(family: str, kind) -> tuple[EditableModel, EditableModel]:
    """A model with such modules in its MLPs, and one with the weights that they stand for."""
    model, plain = tiny.model(family, torch.float32), tiny.model(family, torch.float32)
    for layer in range(model.layers):
        for role, path in model.family.matrices.items():
            packed = kind(model.matrix(layer, role))
            model.part(layer, "block").set_submodule(path, packed)
            plain.matrix(layer, role).weight.data = packed.dequantised()
    return EditableModel(model.hf, model.tokenizer, "packed"), plain


@pytest.mark.parametrize("kind", [Int8, Int4])
@pytest.mark.parametrize("family", ["llama", "opt"])
def test_scores_are_those_of_the_dequantised_weights(family, kind):
    packed, plain = quantised(family, kind)
    assert packed.shape(1, "down") == (32, 48)
    assert packed.parameter_names() == plain.parameter_names()
    got, want = (lga_fast.score_layers(m, FACTS, abs_new=True) for m in (packed, plain))
    for table in ("dot", "norm2_old", "norm2_new", "abs_new"):
        for name, values in getattr(want, table).items():
            np.testing.assert_allclose(getattr(got, table)[name], values, rtol=1e-4)
    for name, sizes in want.sizes.items():
        assert (got.sizes[name] == sizes).all()
    assert int(lga_fast.select_layer(packed, FACTS)) == int(lga_fast.select_layer(plain, FACTS))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Int8, "got a Parameter of torch.int8 in a Int8. Load the model without quantisation"),
        (Int4, "got a weight that is computed in a Int4. Load the model without quantisation"),
    ],
)
def test_they_are_not_edited(kind, message):
    packed, plain = quantised("llama", kind)
    for editor in ("rome", "memit"):
        with pytest.raises(EditError, match=message):
            lga_fast.edit(packed, FACTS, editor, layer=1)
    edit = lga_fast.edit(plain, FACTS[:1], "rome", layer=1, steps=1)
    with pytest.raises(EditError, match=message):
        packed.apply(edit, force=True)


@pytest.mark.parametrize("kind", [Int8, Int4])
def test_their_fingerprint_tells_weights_apart(kind):
    packed, _ = quantised("llama", kind)
    before = packed.fingerprint()
    tensor = packed.matrix(2, "up").weight if kind is Int8 else packed.matrix(2, "up").qweight
    tensor.data.flatten()[0] += 1
    assert packed.fingerprint() != before


def test_torchao_where_it_is_installed():
    quantization = pytest.importorskip("torchao.quantization")
    model, plain = tiny.model("llama", torch.float32), tiny.model("llama", torch.float32)
    quantization.quantize_(
        model.hf,
        quantization.Int8WeightOnlyConfig(),
        filter_fn=lambda module, name: isinstance(module, nn.Linear) and ".mlp." in name,
    )
    _compare(model, plain, lambda module: module.weight.dequantize())


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes_where_it_is_installed(bits):
    bnb = pytest.importorskip("bitsandbytes")
    sizes = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 128}  # blocks of 64 weights
    model, plain = (tiny.model("llama", torch.float32, **sizes) for _ in range(2))
    for block in model.hf.model.layers:
        for name, linear in list(block.mlp.named_children()):
            if not isinstance(linear, nn.Linear):
                continue
            shape = (linear.in_features, linear.out_features, False)
            if bits == 4:
                packed = bnb.nn.Linear4bit(*shape, compute_dtype=torch.float32)
                packed.support_avx512bf16_for_cpu = False  # a form for inference only
                packed.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False)
            else:
                packed = bnb.nn.Linear8bitLt(*shape, has_fp16_weights=False)
                packed.weight = bnb.nn.Int8Params(
                    linear.weight.data, requires_grad=False, has_fp16_weights=False
                )
            block.mlp.set_submodule(name, packed.to("cpu"))

    def dequantised(module) -> Tensor:
        weight = module.weight
        if bits == 4:
            return bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
        return weight.data.float() * (weight.SCB / 127).unsqueeze(1)

    # Linear8bitLt rounds activations too, and its backward does not.
    _compare(model, plain, dequantised, 1e-4 if bits == 4 else 0.1)


def _compare(model: EditableModel, plain: EditableModel, dequantised, tolerance=1e-4) -> None:
    model = EditableModel(model.hf, model.tokenizer, "packed")
    for layer in range(model.layers):
        for role in model.family.matrices:
            plain.matrix(layer, role).weight.data = dequantised(model.matrix(layer, role)).clone()
    got, want = (lga_fast.score_layers(m, FACTS, old="ground_truth") for m in (model, plain))
    for name, dot in want.dot.items():
        error = np.linalg.norm(got.dot[name] - dot, axis=0) / np.linalg.norm(dot, axis=0)
        assert error.max() < tolerance, name
    with pytest.raises(EditError, match="Load the model without quantisation"):
        lga_fast.edit(model, FACTS, "rome", layer=1)
