"""What an editor could write is what it does write, at the bare prompt's key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from both_placements import both
from mass import CONTEXTS, EDITORS, FAMILIES, GENTLE, LAYER, OPTIONS, REQUESTS

from lga_fast import editors, registry
from lga_fast.editors import _keys, _moments, _outlook, rome
from lga_fast.errors import EditError, LgaFastWarning

LAYERS = [0, LAYER, 3]
MEMBERS = [("rome", {}), ("r_rome", {}), ("r_rome", {"mom2_adjustment": True})]
MEMBERS += [(name, OPTIONS[name]) for name in EDITORS]


def made(name, options):
    kind = registry.member("lga_fast.editors", name).Editor
    return kind(**{"contexts": CONTEXTS, **GENTLE, **options})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "options"), MEMBERS)
def test_what_could_be_written_is_what_edits_write(name, options, family):
    """The part of δ, by edits of values that differ in δ only; the bound, by their first value."""
    model, editor = tiny.model(family, torch.float32), made(name, options)
    found = editors.outlook(model, LAYERS, REQUESTS, editor)
    solver = editor.prepare(model, LAYER)
    values = solver._values(REQUESTS)
    further = [replace(value, delta=3 * value.delta + 1) for value in values]
    moved = []
    for some in (values, further):
        edits = solver.solve_independent(REQUESTS, some)
        deltas = [next(iter(edit.deltas.values())) for edit in edits]
        keys = [value.keys[0].double() for value in values]
        pairs = zip(deltas, keys, strict=True)
        moved.append([d.left.double() @ (d.right.double().T @ key) for d, key in pairs])
    for i, value in enumerate(values):
        change = (further[i].delta - value.delta).double()
        written = (moved[1][i] - moved[0][i]) @ change / change.square().sum()
        assert found["written"][i, 1] == pytest.approx(float(written), rel=1e-3)
        bound = min(editor.clamp * float(value.initial.norm()), 3 * editor.lr * len(change) ** 0.5)
        assert found["bound"][i, 1] == pytest.approx(bound, rel=1e-5)
    if name == "rome":
        np.testing.assert_allclose(found["written"], 1)
    else:
        assert np.ptp(found["written"]) > 0.1


def test_steps_move_a_value_no_further_than_the_bound():
    """Each of Adam's steps moves a component by about `lr`; a wide clamp leaves that alone."""
    model = tiny.model("llama", torch.float32)
    for steps in (2, 5):
        editor = made("r_rome", {"clamp": 1e3, "steps": steps, "lr": 0.2})
        bound = editors.outlook(model, [LAYER], REQUESTS, editor)["bound"][:, 0]
        np.testing.assert_allclose(bound, (steps - 1) * 0.2 * 32**0.5)
        sizes = [float(v.delta.norm()) for v in editor.prepare(model, LAYER)._values(REQUESTS)]
        assert (0.3 * bound < sizes).all() and (sizes < 1.01 * bound).all()


def test_layers_share_runs_where_memory_holds_their_keys(monkeypatch):
    model, editor, runs = tiny.model("llama", torch.float32), made("r_rome", {}), []
    read = _keys.of_contexts
    monkeypatch.setattr(
        _outlook._keys, "of_contexts", lambda m, at, *rest: runs.append(at) or read(m, at, *rest)
    )
    want = editors.outlook(model, LAYERS, REQUESTS, editor)
    monkeypatch.setattr(
        _outlook.memory, "chunk_by_size", lambda sizes, limit: [[i] for i in range(len(sizes))]
    )
    got = editors.outlook(model, LAYERS, REQUESTS, editor)
    assert runs == [LAYERS, *([layer] for layer in LAYERS)]
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5)


@pytest.mark.parametrize("name", ["rome", "memit"])
def test_streamed_weights_give_the_same(name, tmp_path):
    editor = made(name, OPTIONS.get(name, {}))
    resident, streamed = both(tmp_path, tiny.model("llama", torch.float32))
    want, got = (editors.outlook(m, LAYERS, REQUESTS, editor) for m in (resident, streamed))
    for part in want:
        np.testing.assert_allclose(got[part], want[part], rtol=1e-5)


def test_layers_that_the_editor_refuses_are_left_out_and_named():
    model = tiny.model("llama", torch.float32)
    seconds = [one.second for one in _moments.moments(model, LAYERS).values()]
    smallest = np.array([float(torch.linalg.eigvalsh(second)[0]) for second in seconds])
    threshold = np.sort(smallest)[1:].mean()  # of one layer no direction is below it
    editor, without = made("alphaedit", {"nullspace_threshold": threshold}), smallest.argmax()
    with pytest.warns(LgaFastWarning, match=f"layer {LAYERS[without]} cannot be edited so; .*free"):
        found = editors.outlook(model, LAYERS, REQUESTS, editor)
    for values in found.values():
        assert (np.isnan(values) == (np.arange(3) == without)).all()
    with pytest.raises(EditError, match="no layer can be edited; .*nullspace_threshold"):
        editors.outlook(model, LAYERS, REQUESTS, made("alphaedit", {"nullspace_threshold": 1e-9}))


def test_contexts_are_sampled_once(monkeypatch):
    model, sampled = tiny.model("gpt2", torch.float32), []
    sample = _outlook._contexts.generate
    monkeypatch.setattr(
        _outlook._contexts, "generate", lambda *given: sampled.append(1) or sample(*given)
    )
    editors.outlook(model, LAYERS, REQUESTS, rome.Editor())
    assert sampled == [1]
