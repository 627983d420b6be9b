"""The notebook of the atlas shows what its code gives; each notebook is small and was executed."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NUMBER = r"-?\d+\.?\d*"


def code_cells(name: str) -> list[dict]:
    book = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def stored(cell: dict) -> str:
    """The text of a cell's result; none has anything else but pictures and HTML beside it."""
    (result,) = cell["outputs"]
    assert result["output_type"] == "execute_result"
    return "".join(result["data"]["text/plain"])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_executed_and_small(path):
    assert path.stat().st_size <= 200_000
    cells = code_cells(path.name)
    assert cells and [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert all(stored(cell) for cell in cells)
    kinds = {kind for cell in cells for output in cell["outputs"] for kind in output["data"]}
    assert kinds == {"text/plain", "text/html", "image/svg+xml"}


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
def test_the_notebook_of_the_atlas_gives_what_it_shows(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(FOLDER)
    names: dict = {}
    for cell in code_cells("atlas.ipynb"):
        *body, last = ast.parse("".join(cell["source"])).body
        assert isinstance(last, ast.Expr)
        exec(compile(ast.Module(body, []), "atlas.ipynb", "exec"), names)
        result = repr(eval(compile(ast.Expression(last.value), "atlas.ipynb", "eval"), names))
        given, shown = (re.sub(r"\s", "", text) for text in (result, stored(cell)))
        assert re.sub(NUMBER, "#", given) == re.sub(NUMBER, "#", shown)
        pairs = zip(re.findall(NUMBER, given), re.findall(NUMBER, shown), strict=True)
        for one, other in pairs:  # a token or two may differ with another torch
            assert math.isclose(float(one), float(other), abs_tol=0.1), (result, shown)
