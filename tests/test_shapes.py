"""The shapes in signatures are true: selections and edits run with every annotation checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = f"""
import importlib, pkgutil, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import beartype, jaxtyping
check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))  # an int is a float
jaxtyping.install_import_hook("lga_fast", "__main__.check")
import lga_fast, numpy as np, tiny, torch
for module in pkgutil.walk_packages(lga_fast.__path__, "lga_fast.", onerror=print):
    if module.name.split(".")[-1] not in ("__main__", "_C"):
        importlib.import_module(module.name)
from lga_fast import registry
from lga_fast.records import EditRequest
from lga_fast.selectors import _tukey
edits = [
    EditRequest(str(i), "The capital of France is", t, subject="France")
    for i, t in enumerate(("Rome", "Ann"))
]
for family in ("gpt2", "llama", "mixtral"):
    for selector in ("lga", "random_layer"):
        lga_fast.select_layer(tiny.model(family, torch.float32), edits, selector)
model = tiny.model("llama", torch.float32)
for selector in set(registry.names("lga_fast.selectors")) - {{"fixed"}}:  # which is given its layer
    lga_fast.select_layer(model, edits, selector)
for editor in registry.names("lga_fast.editors"):
    lga_fast.evaluate(model, edits, editor, layer=1)
_tukey.choose(np.zeros((3, 5)), 1.0)
print("right shapes")
_tukey.stability(np.zeros(5), 1.0, 3, 0)
"""


def test_annotations_hold_and_a_wrong_shape_is_noticed():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout == "right shapes\n", done.stderr
    assert "TypeCheckError" in done.stderr
