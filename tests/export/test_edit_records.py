"""Several edits as one, and what is recorded of edits beside the weights that carry them."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from both_placements import both

import lga_fast
from lga_fast.errors import DataError, EditError
from lga_fast.export import edit_records
from tests.models.edits import bits, make_edit

FACT = {"case_id": "0", "prompt": "Rome lies in", "subject": "Rome", "target_new": "France"}


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_edits_of_one_model_and_of_a_sequence_become_one(weights, tmp_path):
    models = both(tmp_path / "source", tiny.model("llama", torch.float32))
    model, resident = models[weights == "streamed"], models[0]
    first = make_edit(model, (1, 2), editor="rome", requests=[FACT])
    independent = make_edit(model, (2,), rank=3, seed=1, editor="memit")
    with model.edited(first):
        following = make_edit(model, (4,), seed=2, editor="rome")
    whole = edit_records.combine(model, [first, independent, following])
    assert whole.provenance["editor"] == "rome + memit" and whole.provenance["requests"] == [FACT]
    assert [e["checksum"] for e in whole.provenance["edits"]] == [
        edit.checksum for edit in (first, independent, following)
    ]
    ranks = {name.split(".")[2]: delta.rank for name, delta in whole.deltas.items()}
    assert ranks == {"1": 1, "2": 4, "4": 1}
    before = bits(resident)
    with resident.edited(first), resident.edited(independent), resident.edited(following):
        wanted = {n: p.detach().clone() for n, p in resident.hf.named_parameters()}
    with resident.edited(whole):
        for name, parameter in resident.hf.named_parameters():
            torch.testing.assert_close(parameter.detach(), wanted[name])
    assert bits(resident) == before
    assert edit_records.combine(model, [first]) is first


def test_edits_of_other_weights_do_not_combine():
    model = tiny.model("gpt2")
    foreign = make_edit(model, model_fingerprint="other")
    with pytest.raises(EditError, match="was solved on other weights"):
        edit_records.combine(model, [make_edit(model, (1,)), foreign])
    with pytest.raises(EditError, match="one edit or more, got none"):
        edit_records.combine(model, [])
    assert not model.edits_in_effect()


def test_the_norm_needs_no_product():
    edit = make_edit(tiny.model("gpt2"), rank=3)
    (delta,) = edit.deltas.values()
    expected = float((delta.left @ delta.right.T).norm())
    assert edit_records.norm(delta) == pytest.approx(expected, rel=1e-5)


def test_a_folder_records_all_edits_in_it(tmp_path):
    """Those in effect, the one that is merged, and those of the folder that it was loaded from."""
    model, _ = both(tmp_path / "base", tiny.model("llama", torch.float32))
    model.apply(make_edit(model, (1,), editor="rome"))
    second = make_edit(model, (2,), seed=1, editor="memit", requests=[FACT])
    second.to_model(tmp_path / "two", model)
    again = lga_fast.load(tmp_path / "two", device="cpu")
    third = make_edit(again, (3,), editor="pmet")
    third.to_model(tmp_path / "three", again)
    record = edit_records.read_record(tmp_path / "three")
    assert record["base"] == str(tmp_path / "base")
    assert [edit["editor"] for edit in record["edits"]] == ["rome", "memit", "pmet"]
    assert record["edits"][1] == json.loads(json.dumps(edit_records.describe(second)))
    card = (tmp_path / "three" / "README.md").read_text()
    assert "| Rome lies in | France | memit |" in card and str(tmp_path) not in card
    second.to_peft(tmp_path / "adapter", model)
    assert len(edit_records.read_record(tmp_path / "adapter")["edits"]) == 1
    with pytest.raises(DataError, match="expected the record that lga-fast writes beside"):
        edit_records.read_record(tmp_path / "base")
