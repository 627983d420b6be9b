"""Second moments of keys: right numbers, in one pass."""

from __future__ import annotations

import hashlib
import json

import pytest
import tiny
import torch

from lga_fast import atlas
from lga_fast.editors import _corpus
from lga_fast.editors._moments import Moments, moments
from lga_fast.errors import DataError, EditError
from tests.editors.moment_models import forwards, small
from tests.models.edits import bits, flags

WIDTH = 48  # d_in of the small models


def write(path, documents, between="\n\n"):
    path.write_text(between.join(documents), encoding="utf-8")
    return path


def keys_one_by_one(model, layer, texts):
    """Keys of whole texts, each alone in its forward [token d_in]."""
    kept = []
    matrix = model.matrix(layer, model.family.edited)
    hook = matrix.register_forward_pre_hook(
        lambda module, args: kept.append(args[0].flatten(0, -2))
    )
    with model.frozen(), torch.no_grad():
        for text in texts:
            model.hf(input_ids=torch.tensor([model.tokenizer(text)["input_ids"]]))
    hook.remove()
    return torch.cat(kept)


@pytest.mark.parametrize("batch_tokens", (1, 70, 4096))
@pytest.mark.parametrize("family", ("gpt2", "llama"))
def test_equals_a_loop_over_texts(tmp_path, keep_double, family, batch_tokens):
    model = small(family)
    corpus = write(tmp_path / "text.txt", tiny.TEXT)
    found = moments(model, [3, 0], corpus=corpus, tokens=10**6, batch_tokens=batch_tokens)
    assert list(found) == [0, 3]
    for layer, got in found.items():
        keys = keys_one_by_one(model, layer, tiny.TEXT)
        expected = sum(torch.outer(k, k) for k in keys) / len(keys)
        torch.testing.assert_close(got.second, expected, rtol=1e-11, atol=1e-13)
        assert got.tokens == got.provenance["tokens"] == len(keys)
        assert got.second.dtype == torch.float64 and torch.equal(got.second, got.second.T)
        # E[kᵀ C⁻¹ k] = d_in, and the solve is C's inverse
        assert got.jitter == 0
        mean = (keys * got.solve(keys)).sum(1).mean()
        assert float(mean) == pytest.approx(WIDTH, rel=1e-10)
        torch.testing.assert_close(got.solve(keys) @ got.second, keys, rtol=1e-7, atol=1e-9)
        exact = float(torch.linalg.cond(got.second))
        assert exact / 3 < got.condition < exact * (1 + 1e-6)


@pytest.mark.parametrize("family", ("opt", "gemma2", "gpt_neo"))  # own positions, short windows
def test_padding_is_not_seen(tmp_path, keep_double, family):
    model, corpus = small(family), write(tmp_path / "text.txt", tiny.TEXT)
    got = moments(model, [4], corpus=corpus, tokens=10**6)[4]
    keys = keys_one_by_one(model, 4, tiny.TEXT)
    torch.testing.assert_close(got.second, keys.T @ keys / len(keys), rtol=1e-11, atol=1e-13)


def test_one_pass_for_all_layers_up_to_the_highest():
    model = small()
    counts = forwards(model)
    moments(model, range(5), tokens=500, batch_tokens=500)
    batches = counts["model"]
    assert counts == {"model": batches, "last": batches, "head": 0} and batches < 10
    counts.update(model=0, last=0)
    few = moments(model, [1], tokens=500, batch_tokens=500)
    assert counts == {"model": batches, "last": 0, "head": 0}
    many = moments(model, range(5), tokens=500, batch_tokens=500)
    assert torch.equal(few[1].second, many[1].second)


@pytest.mark.parametrize("error", (None, KeyboardInterrupt))
def test_the_model_is_left_as_it_was(monkeypatch, error):
    model = small("llama", torch.bfloat16)
    old, was, state = bits(model), flags(model), torch.get_rng_state()
    if error:
        model._blocks[2].register_forward_hook(lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(error):
            moments(model, [1, 4], tokens=300)
    else:
        moments(model, [1, 4], tokens=300)
    assert bits(model) == old and flags(model) == was and model.hf.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_pre_hooks for m in model.hf.modules())


def test_default_text_and_tokens():
    got = moments(small(), [2])[2]
    assert got.tokens == 10 * WIDTH and got.provenance["notes"] == []
    assert got.provenance["corpus"] == "atlas/text.txt"
    text = (atlas.FOLDER / "text.txt").read_bytes()
    assert got.provenance["corpus_sha256"] == hashlib.sha256(text).hexdigest()
    assert got.report()["condition"] == got.condition and json.dumps(got.provenance)


@pytest.mark.parametrize("family", ("gpt2", "llama"))
def test_rows_hold_the_text_and_nothing_else(family):
    model = small(family)
    ids = [model.tokenizer(t, add_special_tokens=False)["input_ids"] for t in tiny.TEXT]
    start = [1] if family == "llama" else []
    rows = _corpus.rows_of(model, tiny.TEXT, 10**6, 12)
    assert max(map(len, rows)) == 12 and all(row[: len(start)] == start for row in rows)
    assert sorted(t for r in rows for t in r[len(start) :]) == sorted(t for i in ids for t in i)
    assert sum(map(len, _corpus.rows_of(model, tiny.TEXT, 31, 12))) == 31


def test_a_folder_is_documents_and_lines_are_where_no_line_is_blank(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "b").mkdir(parents=True)
    for name, text in zip(("a.txt", "b/c.txt", "d.txt"), tiny.TEXT, strict=False):
        write(folder / name, [text])
    write(folder / ".hidden", ["not this"])
    assert _corpus.read(folder)[2] == tiny.TEXT[:3]
    before = _corpus.read(folder)[1]
    (folder / "a.txt").rename(folder / "e.txt")
    assert _corpus.read(folder)[1] != before
    assert _corpus.read(write(tmp_path / "lines", tiny.TEXT, "\n"))[2] == tiny.TEXT
    assert _corpus.read(write(tmp_path / "blank", ["a\nb", "c"], "\n \n"))[2] == ["a\nb", "c"]


def test_a_singular_moment_is_solved_with_a_jitter_and_said(tmp_path):
    model = small()
    corpus = write(tmp_path / "short.txt", [tiny.TEXT[0]] * 9)
    got = moments(model, [2], corpus=corpus)[2]
    assert got.jitter == pytest.approx(1e-6 * float(got.second.trace()) / WIDTH)
    notes = got.report()["notes"]
    assert "tokens asked for" in notes[0] and "fewer distinct contexts than d_in" in notes[1]
    assert got.report()["jitter"] == got.jitter and 1e5 < got.condition < 1e9
    key = torch.randn(3, WIDTH)
    whole = got.second + got.jitter * torch.eye(WIDTH)
    torch.testing.assert_close(got.solve(key) @ whole, key.double())


def test_a_moment_that_cannot_be_solved_is_refused():
    for second in (torch.zeros(4, 4), torch.full((4, 4), torch.nan), -torch.eye(4)):
        with pytest.raises(EditError, match="layer 1: .* not positive definite"):
            Moments(1, second.double(), 9, {}).solve(torch.ones(1, 4))
    with pytest.raises(EditError, match=r"expected \[request 4\], got \[1, 5\]"):
        Moments(1, torch.eye(4).double(), 9, {}).solve(torch.ones(1, 5))


def test_bad_input_is_refused_before_the_model_runs(tmp_path):
    model = small()
    counts = forwards(model)
    for layers in ([], [5], [-1]):
        with pytest.raises(EditError, match="layers from 0 to 4"):
            moments(model, layers)
    with pytest.raises(EditError, match="1 or more tokens, got 0"):
        moments(model, [0], tokens=0)
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "empty").write_bytes(b" \n\n ")
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("latin", "expected UTF-8 text"),
        ("empty", "found none"),
        ("folder", "found none"),
        ("missing", "expected UTF-8 text"),
    ):
        with pytest.raises(DataError, match=said):
            moments(model, [0], corpus=tmp_path / name)
    assert counts["model"] == 0


def test_keys_that_are_not_finite_are_refused(tmp_path):
    model = small(dtype=torch.float32)
    model.matrix(1, "up").bias.data.fill_(torch.inf)
    with pytest.raises(
        EditError, match="layer 1: keys are not finite .*: transformer.h.1.*bias; rep"
    ):
        moments(model, [0, 1], tokens=50, cache=tmp_path)
    assert not list(tmp_path.iterdir())
