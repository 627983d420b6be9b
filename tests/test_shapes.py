"""The shapes in signatures are true: a whole selection runs with every annotation checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from jaxtyping import install_import_hook
install_import_hook("lga_fast", "beartype.beartype")
import numpy as np, tiny, torch
from lga_fast import select_layer
from lga_fast.records import EditRequest
from lga_fast.selectors import _tukey
edits = [EditRequest(str(i), "The capital of France is", t) for i, t in enumerate(("Rome", "Ann"))]
for family in ("gpt2", "llama", "mixtral"):
    for selector in ("lga", "random_layer"):
        select_layer(tiny.model(family, torch.float32), edits, selector)
_tukey.choose(np.zeros((3, 5)), 1.0)
print("right shapes")
_tukey.stability(np.zeros(5), 1.0, 3, 0)
"""


def test_annotations_hold_and_a_wrong_shape_is_noticed():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout == "right shapes\n", done.stderr
    assert "TypeCheckError" in done.stderr
