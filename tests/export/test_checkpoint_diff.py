"""Which tensors differ, by how much, and putting them back."""

from __future__ import annotations

import shutil

import pytest
import tiny
import torch
from both_placements import both
from safetensors.torch import load_file, save_file

import lga_fast
from lga_fast.errors import DataError, EditError
from lga_fast.export import checkpoint_diff
from tests.models.edits import bits, make_edit


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def merged(request, tmp_path):
    """A model, an edit of it, and the folders without it and with it."""
    model, _ = both(tmp_path / "base", tiny.model("gpt2", request.param))
    edit = make_edit(model, (1, 3), rank=2, scale=1.0)
    edit.to_model(tmp_path / "merged", model)
    return model, edit, tmp_path / "base", tmp_path / "merged"


def test_differences_are_those_of_the_edit(merged):
    model, edit, base, folder = merged
    found = checkpoint_diff.compare(base, folder)
    assert {one.name for one in found.tensors} == set(edit.deltas) and not found.unlike
    assert found.same + 2 == len(model.hf.state_dict()) - 1  # the tied head is not stored
    for one in found.tensors:
        delta = edit.deltas[one.name]
        norm = float((delta.left @ delta.right.T).norm())
        assert one.norm == pytest.approx(norm, rel=1e-2) and one.rank == 2
        assert checkpoint_diff.change_of(base, folder, one.name, delta) <= 1
        other = make_edit(model, (1,), seed=9).deltas["transformer.h.1.mlp.c_proj.weight"]
        assert checkpoint_diff.change_of(base, folder, one.name, other) > 10
    assert checkpoint_diff.compare(base, base).tensors == ()


def test_what_was_put_back_is_the_base_to_the_bit(merged):
    model, edit, base, folder = merged
    checkpoint_diff.put_back(folder, base, list(edit.deltas))
    assert checkpoint_diff.compare(base, folder).tensors == ()
    assert bits(lga_fast.load(folder, device="cpu")) == bits(model)


def test_other_dtypes_and_shapes(merged, tmp_path):
    _, edit, base, folder = merged
    wide = lga_fast.load(base, device="cpu", dtype="float64")
    edit.to_model(tmp_path / "wide", wide)
    checkpoint_diff.put_back(tmp_path / "wide", base, list(edit.deltas))
    assert checkpoint_diff.compare(base, tmp_path / "wide").tensors == ()
    name = next(iter(edit.deltas))
    file = next(f for f in folder.glob("*.safetensors") if name in load_file(f))
    save_file(load_file(file) | {name: torch.ones(2, 2), "more": torch.ones(1)}, file)
    found = checkpoint_diff.compare(base, folder)
    assert len(found.unlike) == 2 and any("more: only in" in line for line in found.unlike)
    with pytest.raises(DataError, match="expected .* as in .*, got .2, 2.; it is no edit of"):
        checkpoint_diff.put_back(folder, base, [name])


def test_names_with_and_without_a_prefix():
    names = ["h.1.mlp.c_proj.weight", "proj.weight", "other"]
    parameter = "transformer.h.1.mlp.c_proj.weight"
    assert checkpoint_diff.stored_name(names, parameter) == names[0]
    with pytest.raises(EditError, match="x: the checkpoint has no such tensor"):
        checkpoint_diff.stored_name(names, "x")


def test_what_is_no_checkpoint_is_no_traceback(tmp_path):
    with pytest.raises(DataError, match="expected a folder or a Hub id of a model"):
        checkpoint_diff.compare(tmp_path / "none", tmp_path / "none")
    shutil.rmtree(tmp_path)
