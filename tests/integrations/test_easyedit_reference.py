"""The drop-in gives what EasyEdit's own code gives; figures by tools/easyedit/reference.py."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from lga_fast.integrations import easyedit

FIGURES = json.loads(Path(__file__).with_name("easyedit_reference.json").read_text())
# Where EasyEdit does not go back to what was before, though edits are to be independent:
# EMMET's weights are not restored, and AlphaEdit protects the keys of earlier edits.
NOT_RESTORED = ("EMMET", "AlphaEdit")


@pytest.fixture(scope="module")
def stats_dir(tmp_path_factory):
    file = Path(__file__).parents[2] / "tools" / "easyedit" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", file)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    folder = tmp_path_factory.mktemp("easyedit") / "stats"
    reference.write_moments(folder)
    return folder


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
@pytest.mark.parametrize("method", ["ROME", "R-ROME", "MEMIT", "EMMET", "PMET", "AlphaEdit"])
def test_metrics_and_changes_are_easyedits(method, stats_dir):
    sequential = method in (*NOT_RESTORED, "R-ROME")
    theirs = FIGURES["methods"][method]
    hparams = getattr(easyedit, f"{method.replace('-', '_')}HyperParams")(
        **theirs["hparams"], stats_dir=str(stats_dir), contexts=FIGURES["contexts"]
    )
    editor = easyedit.BaseEditor.from_hparams(hparams)
    metrics, _, weights = editor.edit(
        **FIGURES["arguments"], sequential_edit=sequential, verbose=False
    )
    expected = theirs["sequential"][str(sequential)]
    for got, wanted in zip(metrics, expected["metrics"], strict=True):
        assert got.keys() == wanted.keys() | {"time", "requested_rewrite"}
        for when in ("pre", "post"):
            assert got[when].keys() == wanted[when].keys()
            assert {
                k: pytest.approx(v, abs=1e-3) if k.endswith("acc") else v
                for k, v in wanted[when].items()
            } == got[when]
    for change, norms in zip(editor.edits, expected["change_norms"], strict=True):
        ours = {n: float(torch.linalg.norm(d.left @ d.right.T)) for n, d in change.deltas.items()}
        assert ours == pytest.approx(norms, rel=1e-3)
    assert weights.keys() == expected["change_norms"][-1].keys()


@pytest.mark.parametrize("method", NOT_RESTORED)
def test_where_easyedit_differs_it_is_because_it_does_not_restore(method):
    alone, sequence = (FIGURES["methods"][method]["sequential"][s] for s in ("False", "True"))
    assert alone["model_stays_edited"] == (method == "EMMET")
    first, *others = zip(alone["change_norms"], sequence["change_norms"], strict=True)
    assert first[0] == first[1]
    if method == "EMMET":
        assert all(a == b for a, b in others), "as if the edits had been sequential"


def test_pmet_as_easyedit_pads_it_edits_another_place():
    """EasyEdit pads PMET's rows on the left, and finds subjects as if it padded on the right."""
    right, left = (
        [
            c["post"]["rewrite_acc"]
            for c in FIGURES["methods"][name]["sequential"]["False"]["metrics"]
        ]
        for name in ("PMET", "PMET padded left")
    )
    assert right[1:] == [[1.0], [1.0]] and left[1:] == [[0.0], [0.0]]
