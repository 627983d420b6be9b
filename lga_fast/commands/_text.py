"""What a module says of itself, without importing it."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path


def first_line(module: str) -> str:
    """First line of a module's docstring; of its parents only the packages are imported."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
