"""Second moments and projections of other code's are used, and refused if of other weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lga_fast
from lga_fast.editors import _moments, memit
from lga_fast.errors import DataError, LgaFastWarning

TEXT = Path(__file__).parents[2] / "LICENSE"
FACT = {"prompt": "The Eiffel Tower is in", "subject": "Eiffel Tower", "target_new": "Rome"}
QUICK = {"steps": 2, "contexts": ()}


@pytest.fixture(scope="module")
def model():
    return lga_fast.load("atlas", device="cpu")


@pytest.fixture(scope="module")
def measured(model):
    """Of every layer, on a text that the editors' own is not like."""
    return _moments.moments(model, range(model.layers), corpus=TEXT, tokens=3000)


def write(root, model, layer, second, tokens=7, *, folder="atlas", text="wikipedia", **other):
    module = model.weight_name(layer, "down").removesuffix(".weight")
    path = root / folder / f"{text}_stats" / f"{module}_float32_mom2_100000.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    total = (second * tokens).float().numpy()
    np.savez(path, **{"mom2.mom2": total, "mom2.count": tokens, "sample_size": 100000} | other)
    return path


def test_stored_moments_are_used(model, measured, tmp_path):
    for layer in (2, 3):
        write(tmp_path, model, layer, measured[layer].second, folder=f"org_{'atlas'}")
    config = {"stats_dir": str(tmp_path), "layers": [2, 3], "alg_name": "MEMIT"}
    change = lga_fast.edit(model, [FACT], "memit", config=config, **QUICK)
    about = change.provenance["second_moment"]
    assert all(
        a["corpus"].endswith(f"{n}.mlp.c_proj_float32_mom2_100000.npz") for n, a in about.items()
    )
    assert {a["tokens"] for a in about.values()} == {7} and about["2"]["corpus_sha256"]
    text = {"corpus": str(TEXT), "mom2_tokens": 3000, "layers": [2, 3]}
    same = lga_fast.edit(model, [FACT], "memit", config=text, **QUICK)
    for name, delta in change.deltas.items():
        # Stored in float32 and solved with: what is small in a column differs most, and says least.
        wanted = same.deltas[name].right
        assert (delta.right - wanted).norm() < 1e-4 * wanted.norm()


def test_what_is_not_stored_is_measured_and_said(model, measured, tmp_path):
    write(tmp_path, model, 2, measured[2].second)
    config = {"stats_dir": str(tmp_path), "layers": [2, 3]}
    with pytest.warns(
        LgaFastWarning, match=r"no second moments of atlas's layers \[3\]; they are "
    ):
        lga_fast.edit(model, [FACT], "memit", config=config, mom2_tokens=900, **QUICK)


def test_stored_moments_are_not_measured_for_a_sweep(model, measured, tmp_path, monkeypatch):
    for layer in (2, 3):
        write(tmp_path, model, layer, measured[layer].second)

    def measure(model, layers, *rest):
        raise RuntimeError(f"measures {layers}")

    monkeypatch.setattr(_moments, "measure", measure)
    editor = memit.Editor(stats_dir=str(tmp_path), mom2_tokens=901)
    editor.measure(model, [2, 3])
    with pytest.raises(RuntimeError, match=r"measures \[4\]"):
        editor.measure(model, [2, 3, 4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": 5}, r"expected second moments of layer 2's keys, got others: .* correlate by"),
        ({"size": 40}, r"expected \d+x\d+ finite numbers from one token or more, got \[40, 40\]"),
        ({"tokens": 0}, "from one token or more, got .* from 0"),
        ({"mom2.mom2": np.full((3, 3), np.nan)}, "expected"),
        ({"bytes": b"PK nothing"}, "expected mom2.mom2 and mom2.count, as EasyEdit's layer_stats"),
        ({"text": "wikitext"}, "expected one file, got atlas/wikipedia_stats/.*; keep one"),
    ],
)
def test_other_moments_are_refused(model, measured, tmp_path, change, message):
    second = measured[change.pop("layer", 2)].second
    second = second[: (size := change.pop("size", len(second))), :size]
    if "text" in change:
        write(tmp_path, model, 2, second)
    content = change.pop("bytes", None)
    path = write(tmp_path, model, 2, second, **change)
    if content:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        lga_fast.edit(model, [FACT], "emmet", layer=2, stats_dir=str(tmp_path), **QUICK)


def projections(measured, layers, threshold=0.02):
    made = []
    for layer in layers:
        values, vectors = torch.linalg.eigh(measured[layer].second)
        free = vectors[:, values < threshold]
        made.append((free @ free.T).float())
    return torch.stack(made)


def test_projections_are_used(model, measured, tmp_path):
    file = tmp_path / "null_space_project.pt"
    torch.save(projections(measured, [2, 3]), file)
    config = {"P_loc": str(file), "layers": [2, 3], "alg_name": "AlphaEdit"}
    change = lga_fast.edit(model, [FACT], "alphaedit", config=config, **QUICK)
    text = {"corpus": str(TEXT), "mom2_tokens": 3000, "layers": [2, 3]}
    same = lga_fast.edit(model, [FACT], "alphaedit", config=text, **QUICK)
    for name, delta in change.deltas.items():
        torch.testing.assert_close(delta.right, same.deltas[name].right, rtol=1e-3, atol=1e-4)
    free = [edit.provenance["second_moment"]["2"]["free"] for edit in (change, same)]
    assert free[0] == free[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda p: p[:1],
            r"expected \[2, \d+, \d+\], a projection for each of the layers \[2, 3\]",
        ),
        (lambda p: {"P": p}, "got dict"),
        (lambda p: 2 * p, "layer 2: expected a projection, off by"),
        (lambda p: torch.eye(p.shape[1]) - p, "expected directions in which keys are small, got"),
    ],
)
def test_other_projections_are_refused(model, measured, tmp_path, content, message):
    file = tmp_path / "P.pt"
    torch.save(content(projections(measured, [2, 3])), file)
    config = {"P_loc": str(file), "layers": [2, 3]}
    with pytest.raises(DataError, match=f"P_loc .*{message}"):
        lga_fast.edit(model, [FACT], "alphaedit", config=config, **QUICK)


def test_a_file_of_something_else_is_no_traceback(model, tmp_path):
    (tmp_path / "P.pt").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"P_loc .*: expected a tensor of torch.save"):
        lga_fast.edit(
            model, [FACT], "alphaedit", layer=2, projections=str(tmp_path / "P.pt"), **QUICK
        )
