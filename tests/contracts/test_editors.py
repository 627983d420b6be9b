"""Every editor keeps the same contract."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, fields
from typing import get_type_hints

import mass
import pytest
import tiny
import torch
from limits import refused

import lga_fast
from lga_fast import registry
from lga_fast.editors import LayerEditor, Preset, Solver, _moment_sources, _moments, solve_at
from lga_fast.errors import OptionError
from lga_fast.options import checked
from tests.models.edits import bits

NAMES = registry.names("lga_fast.editors")
REQUESTS, LAYER = mass.REQUESTS[:2], 2


def kind_of(name):
    return registry.member("lga_fast.editors", name).Editor


def options(name, **more):
    """Few steps, and numbers that suit small models."""
    return mass.GENTLE | mass.OPTIONS.get(name, {}) | {"contexts": mass.CONTEXTS} | more


def assert_same_bits(one, other):
    assert list(one.deltas) == list(other.deltas)
    for name, delta in one.deltas.items():
        assert torch.equal(delta.left, other.deltas[name].left)
        assert torch.equal(delta.right, other.deltas[name].right)


@pytest.fixture(scope="module")
def model():
    return tiny.model("llama", torch.float32)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_is_data_and_the_model_is_left_as_it_was(name, model):
    before, rng = bits(model), torch.get_rng_state()
    change = lga_fast.edit(model, REQUESTS, name, layer=LAYER, **options(name))
    assert bits(model) == before and torch.equal(torch.get_rng_state(), rng)
    assert model.hf.training and all(p.requires_grad for p in model.hf.parameters())
    for module in model.hf.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert list(change.deltas) == [model.weight_name(LAYER, model.family.edited)]
    made = change.provenance
    assert (made["editor"], made["layer"]) == (name, LAYER)
    assert made["model_fingerprint"] == model.fingerprint()
    assert made["config"].keys() == made["config_source"].keys() - {"layer"}
    assert made["contexts"] == list(mass.CONTEXTS)
    assert [r["case_id"] for r in made["requests"]] == [r.case_id for r in REQUESTS]
    assert all(1 <= len(losses) <= mass.GENTLE["steps"] for losses in made["losses"])
    assert all(isinstance(note, str) for note in made["notes"])


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_applies_and_every_bit_comes_back(name, model):
    change = lga_fast.edit(model, REQUESTS, name, layer=LAYER, **options(name))
    (parameter,) = change.deltas
    weight = model.hf.state_dict()[parameter]
    before, plain = bits(model), weight.clone()
    with model.edited(change):
        moved = weight - plain
        delta = change.deltas[parameter].left @ change.deltas[parameter].right.T
        torch.testing.assert_close(moved, delta, rtol=1e-3, atol=1e-6)
        assert moved.norm() > 0
        assert {k for k, v in bits(model).items() if v != before[k]} == {parameter}
    assert bits(model) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_of_several_requests_has_their_number_as_rank(name, model):
    change = lga_fast.edit(model, mass.REQUESTS, name, layer=LAYER, **options(name))
    assert [delta.rank for delta in change.deltas.values()] == [3]
    again = lga_fast.edit(model, mass.REQUESTS, name, layer=LAYER, **options(name))
    assert_same_bits(again, change)


@pytest.mark.parametrize("name", NAMES)
def test_edits_found_together_are_the_ones_found_alone(name, model):
    """As for `edit_each`, so for `solve_at` at every layer."""
    together = lga_fast.edit_each(model, REQUESTS, name, layer=LAYER, **options(name))
    editor = kind_of(name)(**together[0].provenance["config"])
    solvers = {n: editor.prepare(model, n) for n in (LAYER, 3)}
    assert all(isinstance(solver, Solver) for solver in solvers.values())
    at_layers = solve_at(solvers, REQUESTS)
    for layer, changes in ((LAYER, together), *at_layers.items()):
        for request, change in zip(REQUESTS, changes, strict=True):
            alone = lga_fast.edit(model, [request], name, layer=layer, **options(name))
            (parameter,) = alone.deltas
            for side in ("left", "right"):
                got, wanted = (getattr(x.deltas[parameter], side) for x in (change, alone))
                torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)
            got, wanted = change.provenance, alone.provenance
            assert got["losses"][0] == pytest.approx(wanted["losses"][0], 1e-4)
            same = ["requests", "config", "contexts", "model_fingerprint"]
            same += ["config_source", "notes"] if changes is together else []
            assert {key: got[key] for key in same} == {key: wanted[key] for key in same}


@pytest.mark.parametrize("contexts", [None, (), ("", "The book. ", "A tree. ")])
@pytest.mark.parametrize("name", NAMES)
def test_a_cheap_edit_has_the_bare_prompts_row_and_the_kls(name, contexts, model):
    editor = kind_of(name)(**options(name, contexts=contexts))
    assert editor.rows == len(editor.prepare(model, LAYER).contexts) + 1
    assert editor.cheap().rows == 2


@pytest.mark.parametrize("name", NAMES)
def test_what_all_layers_need_is_measured_in_one_pass(name, model, tmp_path, monkeypatch):
    given = {"mom2_adjustment": True} if name.endswith("rome") else {}
    editor, passes, measure = kind_of(name)(**options(name, **given)), [], _moments.measure

    def counted(model, layers, *rest):
        passes.append(layers)
        return measure(model, layers, *rest)

    monkeypatch.setattr(_moments, "measure", counted)
    monkeypatch.setattr(_moment_sources, "cache_folder", lambda kind: tmp_path)
    editor.measure(model, range(model.layers))
    for layer in range(model.layers):
        editor.prepare(model, layer)
    assert passes == [list(range(model.layers))]


def test_an_edit_imports_neither_other_editors_nor_what_scores():
    code = "import sys, lga_fast.editors.r_rome; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    members = {name for name in NAMES if f"lga_fast.editors.{name}" in loaded.split()}
    assert members == {"r_rome", "rome"}, "what r_rome derives from, and no other"
    folders = {name.split(".")[1] for name in loaded.split() if name.startswith("lga_fast.")}
    assert "editors" in folders
    assert not folders & {"scoring", "selectors", "sweep", "studies", "evaluation", "reports"}


@pytest.mark.parametrize("name", NAMES)
def test_options_out_of_their_limits_are_refused_on_creation(name):
    kind = kind_of(name)
    assert issubclass(kind, LayerEditor)
    values = refused(kind)
    assert {option for option, _ in values} == {field.name for field in fields(kind)}
    for option, value in values:
        with pytest.raises(OptionError, match=rf"{name}: {option}.*expected .*got "):
            kind(**{option: value})


@pytest.mark.parametrize("name", NAMES)
def test_published_options_are_within_limits_and_every_option_explains_itself(name):
    kind = kind_of(name)
    known, hints = {f.name: f for f in fields(kind)}, get_type_hints(kind)
    assert all(f.metadata["help"].endswith(".") for f in known.values())
    tables = getattr(kind, "published_hparams", {})
    assert set(tables) <= set(Preset.__args__)
    for table in tables.values():
        for key, value in (pair for values in table.values() for pair in values.items()):
            assert checked(value, hints[key], known[key].metadata, key) == value
    assert asdict(kind(**asdict(kind()))) == asdict(kind())
