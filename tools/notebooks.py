"""Execute the notebooks of docs/notebooks and store what they show: `make notebooks`."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
LARGEST = 200_000  # bytes of a notebook


def main() -> None:
    """Execute every notebook, or those that are named; nothing is stored of one that fails."""
    for path in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
        book = nbformat.read(path, nbformat.NO_CONVERT)
        NotebookClient(book, resources={"metadata": {"path": path.parent}}, timeout=None).execute()
        for cell in book.cells:
            cell.metadata = {}  # the times of execution, which differ each time
            if cell.cell_type == "code":  # without the progress of other libraries
                cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        book.metadata = {"kernelspec": book.metadata["kernelspec"]}
        text = nbformat.writes(book, ensure_ascii=False) + "\n"
        if (size := len(text.encode())) > LARGEST:
            sys.exit(f"{path}: expected at most {LARGEST} bytes, got {size}; show less")
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(book.cells)} cells, {size} bytes")


if __name__ == "__main__":
    main()
