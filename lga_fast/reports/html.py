"""A study as one HTML page that opens without a network: text, tables, figures inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lga_fast.reports.table import Table

_TEMPLATE = "_page.html"


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
