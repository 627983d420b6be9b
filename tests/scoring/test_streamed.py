"""A streamed pass gives the resident pass's bits, and reads each block twice."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest
import tiny
import torch
from both_placements import REQUESTS, assert_same_bits, both

from lga_fast import registry, score_layers
from lga_fast.errors import LgaFastError, UnsupportedModel


@pytest.mark.parametrize("family", registry.names("lga_fast.models.families"))
def test_every_family_gives_the_resident_bits(family, tmp_path):
    """Old answers, packed and separate rows, several batches, sliding windows, tied heads."""
    model = tiny.model(family, torch.float32)
    if not model.restarts:
        with pytest.raises(UnsupportedModel, match="read more of earlier ones than hidden states"):
            both(tmp_path, model)
        return
    resident, streamed = both(tmp_path, model)
    for options in ({"batch_tokens": 60, "abs_new": True}, {"old": None}):
        assert_same_bits(
            score_layers(streamed, REQUESTS, **options), score_layers(resident, REQUESTS, **options)
        )


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("bfloat16", {"loss_scope": "full"}),
        ("float16", {"reduction": "sum"}),
        ("float64", {"old": "ground_truth", "batch_tokens": 12}),
    ],
)
def test_dtypes_are_converted_while_loading(dtype, options, tmp_path):
    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32), dtype=dtype)
    want = score_layers(resident, REQUESTS, **options)
    assert want.provenance["dtype"] == dtype
    assert_same_bits(score_layers(streamed, REQUESTS, **options), want)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_each_block_is_read_twice_and_the_head_once(family, tmp_path):
    _, streamed = both(tmp_path, tiny.model(family, torch.float32))
    answered = [replace(r, target_old="Ann") for r in REQUESTS]
    streamed.fingerprint()
    for batch_tokens in (10, 4096):
        before = streamed.shards.bytes_read
        score_layers(streamed, answered, old="ground_truth", batch_tokens=batch_tokens)
        read = streamed.shards.bytes_read - before
        expected = 2 * streamed.sweep_bytes() + streamed.head_read_bytes()
        assert expected <= read <= 1.2 * expected if batch_tokens == 10 else read == expected


def test_old_answers_cost_one_reading_of_the_blocks_per_token(tmp_path):
    _, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    requests = [replace(r, target_old=None) for r in REQUESTS]
    score_layers(streamed, requests, old="model", batch_tokens=20)
    before, counted = streamed.shards.bytes_read, []
    for old in ("model", None):
        score_layers(streamed, requests, old=old, batch_tokens=20)
        counted.append(streamed.shards.bytes_read - before - sum(counted))
    longest = max(len(streamed.tokenizer(" " + r.target_new)["input_ids"]) for r in requests)
    one = streamed.sweep_bytes() + streamed.head_read_bytes()
    assert counted[0] - counted[1] == longest * one


@pytest.mark.parametrize("fails", [False, True])
def test_the_head_is_read_while_the_last_block_runs(fails, tmp_path, monkeypatch):
    _, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    score_layers(streamed, REQUESTS, old=None)
    runner, events, come = streamed.block_runner(), [], threading.Event()
    read, run = streamed.shards.read, runner.run

    def reading(names):
        names = list(names)
        if any("lm_head" in name for name in names):
            events.append("head")
            come.set()
        return read(names)

    def running(layer, *rest):
        events.append(layer)
        if layer == streamed.layers - 1:
            assert come.wait(5)
            if fails:
                raise LgaFastError("enough")
        return run(layer, *rest)

    monkeypatch.setattr(streamed.shards, "read", reading)
    monkeypatch.setattr(runner, "run", running)
    with pytest.raises(LgaFastError, match="enough") if fails else nullcontext():
        score_layers(streamed, REQUESTS, old=None)
    assert events.count("head") == 1 and set(events[: events.index("head")]) >= {0, 1, 2, 3}
    assert streamed._loader.take_head() is None


def test_an_error_leaves_no_weights_behind(tmp_path, monkeypatch):
    resident, streamed = both(tmp_path, tiny.model("gpt2", torch.float32))
    want = score_layers(resident, REQUESTS)
    calls, real = [], streamed.block_runner().run

    def failing(layer, *rest):
        calls.append(layer)
        if calls.count(1) == 3:
            raise LgaFastError("enough")
        return real(layer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(streamed.block_runner(), "run", failing)
        with pytest.raises(LgaFastError, match="enough"):
            score_layers(streamed, REQUESTS)
    assert all(p.is_meta for block in streamed._blocks for p in block.parameters())
    assert streamed.hf.get_output_embeddings().weight.is_meta
    assert_same_bits(score_layers(streamed, REQUESTS), want)
