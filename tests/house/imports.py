"""The package's modules and what each imports, read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "lga_fast"


class Import(NamedTuple):
    """One import, also a lazy one and one for types only."""

    module: str
    imported: str  # a module of the package
    line: int


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    files = sorted(PACKAGE.rglob("*.py"))
    parts = {file: file.relative_to(PACKAGE.parent).with_suffix("").parts for file in files}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): file for file, p in parts.items()}


def imports() -> list[Import]:
    """Every import of one module of the package by another."""
    known, edges = modules(), []
    for module, file in known.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                members = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in known else str(node.module) for name in members]
            edges += [Import(module, n, node.lineno) for n in dict.fromkeys(names) if n in known]
    return edges
