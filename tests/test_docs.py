"""The code of the pages for users runs as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from running import run

import lga_fast.atlas

DOCS = Path(__file__).resolve().parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def hparams(method: str) -> str:
    layers = "[0]" if method.endswith("ROME") else "[0, 1]"
    return f"alg_name: {method}\nmodel_name: atlas\ndevice: cpu\nlayers: {layers}\nv_lr: 5e-1\n"


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
@pytest.mark.parametrize("method", ["ROME", "AlphaEdit"])
def test_easyedits_quick_start_runs(method, tmp_path, monkeypatch):
    """With the class of another method, as for EasyEdit itself."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hparams" / "ROME" / "gpt2-xl.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(hparams(method) + "v_num_grad_steps: 3\ncontexts: []\nmom2_tokens: 1000\n")
    code = "".join(blocks("easyedit.md", "python"))
    code = code.replace("ROMEHyperParams", f"{method.replace('-', '_')}HyperParams")
    names: dict = {}
    exec(compile(code, "docs/easyedit.md", "exec"), names)
    assert names["metrics"][0]["post"].keys() > {"rewrite_acc", "rephrase_acc", "locality"}
    assert len(names["hparams"].layers) in (1, 2)
    assert {"edit.safetensors", "gpt2-xl-golden.yaml"} <= {p.name for p in tmp_path.iterdir()}


def test_serving_runs(tmp_path, monkeypatch):
    """Every command and the Python, in their order, on the embedded model as FOLDER."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lga_fast.atlas.folder(), "FOLDER")
    commands = "".join(blocks("serving.md", "sh")).replace("\\\n", "").strip().splitlines()
    python = blocks("serving.md", "python")[0]
    assert [shlex.split(line)[:2] for line in commands][-1] == ["lga-fast", "undo"]
    outputs = {}
    for line in commands:
        _, command, *arguments = shlex.split(line)
        fast = ["--steps", 15, "--layer", 0] if command == "edit" else []
        outputs[command] = run(command, *arguments, *fast)
    assert outputs["verify"].startswith("weights: as they should be, 2 checked")
    assert "1 of 100 tensors differ" in outputs["diff"] and "tensors put back: 1" in outputs["undo"]
    exec(compile(python, "docs/serving.md", "exec"), {})
    assert (tmp_path / "served-too" / "config.json").exists()
