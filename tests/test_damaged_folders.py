"""Damaged model folders, and places that are not here: one paragraph, never a traceback."""

from __future__ import annotations

import json

import pytest
import tiny
import torch

import lga_fast
from lga_fast.errors import LgaFastError

DEEP = "[" * 100_000
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every file of a small model of several files of weights, by name."""
    folder = tmp_path_factory.mktemp("whole")
    model = tiny.model("gpt2", torch.float32)
    model.hf.save_pretrained(folder, max_shard_size="30KB")
    model.tokenizer.save_pretrained(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def outside(text):
    index = json.loads(text)
    return json.dumps(index | {"weight_map": dict.fromkeys(index["weight_map"], "../other")})


def setting(**changes):
    return lambda text: json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize("weights", ("resident", "streamed"))
@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (INDEX, lambda _, text=text: text, "with metadata and a weight_map")
        for text in (
            "[1]",
            "{}",
            "null",
            "{",
            DEEP,
            '{"weight_map": [1]}',
            '{"weight_map": {"a": 3}}',
            '{"weight_map": {"a": "b"}}',
            '{"weight_map": {}, "metadata": {}}',
        )
    ]
    + [(INDEX, outside, "files in this folder, got the file '../other'")]
    + [
        ("config.json", lambda _, text=text: text, "could not load")
        for text in ("[1]", "null", DEEP)
    ]
    + [
        ("config.json", setting(**{key: value}), message)
        for key, value, message in (
            ("n_layer", 0, "expected a model with layers"),
            ("n_layer", "x", "could not load"),
            ("n_embd", 0, "could not load"),
            ("n_head", 0, "could not load"),
            ("vocab_size", 10**30, "could not load"),
            ("dtype", "zzz", "could not load"),
            ("activation_function", "zzz", "could not load"),
            ("quantization_config", 3, "could not"),
        )
    ]
    + [("tokenizer.json", lambda _, text=text: text, "could not load") for text in ("[]", DEEP)]
    + [("tokenizer_config.json", lambda _: "[]", "could not load")],
)
@pytest.mark.filterwarnings("ignore:.*are not read")
def test_a_damaged_file_is_one_paragraph(whole, tmp_path, name, damage, message, weights):
    for file, content in whole.items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / name).write_text(damage(whole[name].decode()))
    with pytest.raises(LgaFastError, match=message) as caught:
        lga_fast.load(tmp_path, device="cpu", weights=weights)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("device", ("bogus", "meta", "", "x" * 300, "vulkan", 3.5))
def test_a_device_that_is_not_here(device):
    with pytest.raises(
        LgaFastError, match="expected cpu, auto, or a device that is here"
    ) as caught:
        lga_fast.load("atlas", device=device)
    assert len(str(caught.value)) < 600


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none():
    with pytest.raises(LgaFastError, match="device 'cuda:0': expected cpu, auto, or"):
        lga_fast.load("atlas", device="cuda:0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8_e4m3fn"}, "expected auto, float32, bfloat16, float16 or float64"),
        ({"dtype": torch.float8_e5m2}, "expected auto, float32, bfloat16, float16 or float64"),
        ({"dtype": 3}, "expected auto, float32, bfloat16, float16 or float64"),
        ({"memory_budget": "9" * 400}, "expected a number and a unit, such as 8GiB"),
        ({"memory_budget": "9" * 400 + "GiB"}, "expected a number and a unit, such as 8GiB"),
        ({"memory_budget": 10**400}, "expected a whole number"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(LgaFastError, match=message) as caught:
        lga_fast.load("atlas", device="cpu", **options)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("source", ("x" * 300, "a\0b", "~nouser/x", "\ud800"), ids=ascii)
def test_sources_that_cannot_be(source):
    with pytest.raises(LgaFastError, match="expected a path, got one with"):
        lga_fast.load(source)
