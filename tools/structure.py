"""Measures how much code a reader meets: `python tools/structure.py [--json FILE]`.

What one selection and one edit run through is measured, not read off imports: the files of the
package in which a function is called between an edit request and the result, on a model that is
loaded already and once all imports are done. Lines are those of these files as a whole.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lga_fast
from lga_fast import provenance

PACKAGE = Path(lga_fast.__file__).parent


def main() -> None:
    """Print the table, and write it where that is asked for."""
    edits = lga_fast.load_edits("atlas", limit=8)
    one = edits[:1]
    for model in (lga_fast.load("atlas"), lga_fast.load("atlas")):  # imports are done by the first
        table = {
            "selection": path_of(lambda model=model: lga_fast.select_layer(model, edits)),
            "edit": path_of(lambda model=model: lga_fast.edit(model, one, layer=3)),
            "package": package(),
        }
    text = json.dumps({"commit": provenance.commit()} | table, indent=1)
    print(text)
    if sys.argv[1:2] == ["--json"]:
        Path(sys.argv[2]).write_text(text + "\n", encoding="utf-8")


def path_of(call: Callable[[], Any]) -> dict[str, Any]:
    """Files of the package that a call runs through, their lines, and switches between them."""
    files: list[str] = []  # each time that another one is entered
    inside = f"{PACKAGE}/"

    def entered(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        body = event == "call" and code.co_name != "<module>"
        if body and code.co_filename.startswith(inside) and code.co_filename not in files[-1:]:
            files.append(code.co_filename)

    threading.setprofile(entered)
    sys.setprofile(entered)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {
        "files": len(set(files)),
        "lines": sum(lines(Path(file)) for file in set(files)),
        "switches": len(files),
        "names": sorted(file.removeprefix(inside) for file in set(files)),
    }


def package() -> dict[str, int]:
    """Size of the package and what its structure asks of a reader."""
    files = sorted(PACKAGE.rglob("*.py"))
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    return {
        "files": len(files),
        "lines": sum(map(lines, files)),
        "lines of code": sum(map(code_lines, texts.values())),
        "longest file": max(map(lines, files)),
        "isinstance StreamedModel": sum(
            "isinstance(" in line and "StreamedModel" in line
            for text in texts.values()
            for line in text.splitlines()
        ),
        "private imports across folders": sum(
            not _shares_folder(file, name)
            for file, text in texts.items()
            for name in _private_imports(text)
        ),
    }


def lines(file: Path) -> int:
    """Lines of a file."""
    return len(file.read_text(encoding="utf-8").splitlines())


def code_lines(text: str) -> int:
    """Lines that are neither blank, nor a comment, nor of a docstring."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            first = node.body[0]
            prose |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in prose
        for number, line in enumerate(text.splitlines(), 1)
    )


def _private_imports(text: str) -> list[str]:
    """Modules with an underscore that a file imports."""
    direct = re.findall(r"from (lga_fast[\w.]*\._\w+) import", text)
    listed = re.findall(r"from (lga_fast[\w.]*) import ([^(\n]+)", text)
    members = [(folder, name.strip()) for folder, names in listed for name in names.split(",")]
    names = direct + [f"{folder}.{name}" for folder, name in members if name.startswith("_")]
    return [name for name in names if not name.endswith("__version__")]


def _shares_folder(file: Path, name: str) -> bool:
    folder = ".".join(file.parent.relative_to(PACKAGE.parent).parts)
    return name.rpartition(".")[0] == folder


if __name__ == "__main__":
    main()
