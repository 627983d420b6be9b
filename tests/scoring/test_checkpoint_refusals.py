"""The state of another run is refused, and files of others are left alone."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from both_placements import REQUESTS, both

import lga_fast
from lga_fast import score_layers
from lga_fast.errors import LgaFastError, ScoringError
from lga_fast.scoring import checkpoint


def test_the_state_of_another_run_is_refused(tmp_path):
    resident, streamed = both(tmp_path / "model", tiny.model("llama", torch.float32))
    state = tmp_path / "state"
    score_layers(streamed, REQUESTS[:2], old=None, resume=state)
    for requests, options, differ in [
        (REQUESTS[:2], {"abs_new": True, "old": None}, "abs_new was False, is now True"),
        (REQUESTS[:1], {"old": None}, "requests_sha256 was '.*', is now '.*'"),
        (
            REQUESTS[:2],
            {"old": None, "batch_tokens": 9},
            "batch_tokens was 4096, is now 9",
        ),
    ]:
        with pytest.raises(ScoringError, match=f"the state of another run: {differ}. Give another"):
            score_layers(streamed, requests, resume=state, **options)
    run = state / "run.json"
    checkpoint._write(run, checkpoint._read(run) | {"torch": "1.0"})
    with pytest.raises(ScoringError, match="another run: torch was '1.0', is now '.*'. Give"):
        score_layers(streamed, REQUESTS[:2], old=None, resume=state)
    checkpoint._write(run, checkpoint._read(run) | {"torch": torch.__version__})
    streamed.tokenizer.backend_tokenizer.pre_tokenizer = None
    with pytest.raises(ScoringError, match="another run: tokenizer was '.*', is now '.*'. Give"):
        score_layers(streamed, REQUESTS[:2], old=None, resume=state)
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rms_norm_eps": 0.1}))
    changed = lga_fast.load(tmp_path / "model", device="cpu", weights="streamed")
    with pytest.raises(ScoringError, match="another run: model_fingerprint was '.*', is now"):
        score_layers(changed, REQUESTS[:2], old=None, resume=state)
    with pytest.raises(LgaFastError, match="Drop resume=, or load the model with weights='stream"):
        score_layers(resident, REQUESTS, resume=state)
    chosen = lga_fast.load(tmp_path / "model", device="cpu", weights="auto", memory_budget="1GiB")
    with pytest.warns(UserWarning, match="the weights are in memory.* Nothing is kept"):
        score_layers(chosen, REQUESTS[:1], old=None, resume=tmp_path / "not")
    assert not (tmp_path / "not").exists()


def test_files_of_others_are_left_alone(tmp_path, monkeypatch):
    _, streamed = both(tmp_path / "model", tiny.model("gpt2", torch.float32))
    state = tmp_path / "state"
    state.mkdir()
    other = state / "edit.safetensors"
    other.write_bytes(b"mine")
    with pytest.raises(ScoringError, match="an empty folder, got 'edit.safetensors' in it"):
        score_layers(streamed, REQUESTS, resume=state)
    other.unlink()
    want = score_layers(streamed, REQUESTS, old=None, resume=state)
    (state / "gradient-0.zip").unlink()
    for name in ("edit", "my-edit", "entering-mine"):
        (state / f"{name}.zip").write_bytes(b"mine")
    real, failing = torch.nn.functional.cross_entropy, [torch.OutOfMemoryError("too much")]

    def once(*args, **kwargs):
        if failing:
            raise failing.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", once)
    with pytest.warns(UserWarning, match="out of memory"):
        again = score_layers(streamed, REQUESTS, old=None, resume=state)
    assert again.norm2_new["up.weight"] == pytest.approx(want.norm2_new["up.weight"])
    for name in ("edit", "my-edit", "entering-mine"):
        assert (state / f"{name}.zip").read_bytes() == b"mine"
