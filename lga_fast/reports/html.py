"""A study as one HTML page that opens without a network: text, tables, figures inside."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEMPLATE = "_page.html"


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """The table in GitHub's Markdown, under its title."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [" | ".join(_cell(c) for c in row) for row in (self.columns, rule, *self.rows)]
        table = "\n".join(f"| {line} |" for line in lines)
        return f"## {self.title}\n\n{table}\n" + (f"\n{self.note}\n" if self.note else "")


def page(
    title: str,
    text: Sequence[str],
    tables: Sequence[Table],
    pictures: Sequence[tuple[bytes, str]],
    provenance: Mapping[str, Any],
) -> str:
    """The page.

    Args:
        title: of the page.
        text: paragraphs.
        tables: in their order.
        pictures: SVG files with their captions.
        provenance: what is needed to repeat it.
    """
    import jinja2

    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=folder, autoescape=True).get_template(_TEMPLATE)
    return template.render(
        title=title,
        text=text,
        tables=tables,
        pictures=[(base64.b64encode(svg).decode(), caption) for svg, caption in pictures],
        provenance=json.dumps(provenance, indent=1, ensure_ascii=False),
    )


def _cell(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
