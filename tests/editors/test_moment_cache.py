"""The cache of second moments: the same bits without the model, and never another's."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from lga_fast.editors._moments import KIND, moments
from lga_fast.errors import DataError
from tests.editors.moment_models import forwards, small


def test_the_cache_gives_the_same_bits_without_running_the_model(tmp_path):
    model, cache = small("llama", torch.float32), tmp_path / "new" / "folder"
    first = moments(model, [1, 2], tokens=400, cache=cache)
    counts = forwards(model)
    again = moments(model, [2, 1], tokens=400, cache=cache)
    assert counts["model"] == 0
    for layer, old in first.items():
        assert torch.equal(old.second, again[layer].second)
        assert (old.tokens, old.provenance) == (again[layer].tokens, again[layer].provenance)
    moments(model, [1, 3], tokens=400, cache=cache)  # only layer 3 is new
    assert counts["model"] and len(list(cache.iterdir())) == 3
    moments(model, [1], tokens=401, cache=cache)
    assert len(list(cache.iterdir())) == 4


def test_another_model_or_tokenizer_has_other_files(tmp_path):
    for model in (
        small("llama", torch.float32),
        small("llama", torch.bfloat16),
        tiny.model("llama", torch.float32, tiny.metaspace(add_bos=False)),
        tiny.model("llama", torch.float32, tiny.metaspace(), hidden_act="gelu"),
    ):
        moments(model, [0], tokens=60, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_files_that_do_not_match_are_refused(tmp_path):
    model = small()
    moments(model, [0, 1], tokens=100, cache=tmp_path)
    zero, one = sorted(tmp_path.iterdir())
    about, good = json.loads(_metadata(zero)), load_file(zero)
    one.replace(zero)  # renamed: layer 1 under layer 0's name
    with pytest.raises(DataError, match="layer 1 instead of 0; delete it"):
        moments(model, [0], tokens=100, cache=tmp_path)
    save_file({"second": good["second"][:5]}, zero, {KIND: json.dumps(about)})
    with pytest.raises(DataError, match="expected a square of finite float64"):
        moments(model, [0], tokens=100, cache=tmp_path)
    save_file(good, zero)
    with pytest.raises(DataError, match="not a file of moments"):
        moments(model, [0], tokens=100, cache=tmp_path)
    for changed in ("", [], about | {"tokens": "many"}):
        save_file(good, zero, {KIND: json.dumps(changed)})
        with pytest.raises(DataError, match="expected a .*, got a (str|list)"):
            moments(model, [0], tokens=100, cache=tmp_path)
    del about["tokens"]
    save_file(good, zero, {KIND: json.dumps(about)})
    with pytest.raises(DataError, match="not a file of moments"):
        moments(model, [0], tokens=100, cache=tmp_path)
    zero.write_bytes(b"half a file")
    with pytest.raises(DataError, match="not a file of moments"):
        moments(model, [0], tokens=100, cache=tmp_path)


def _metadata(file):
    from safetensors import safe_open

    with safe_open(file, "pt") as data:
        return data.metadata()[KIND]
