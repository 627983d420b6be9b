"""A report as one HTML page that opens without a network: text, tables, figures inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lga_fast import extras
from lga_fast.reports.table import Table

_TEMPLATE = "_page.html"
_VERSIONS = ("lga_fast", "commit", "torch", "transformers", "python")


@dataclass(frozen=True)
class Origin:
    """How a report was made."""

    provenance: Mapping[str, Any]  # what is needed to repeat it, in plain JSON values
    command: str = ""  # the command line, if there was one
    options: Sequence[Table] = ()  # the values that all of them had

    @property
    def versions(self) -> str:
        """Of the software, on one line."""
        known = [f"{n} {v}" for n in _VERSIONS if (v := self.provenance.get(n))]
        return ", ".join(known)

    @property
    def json(self) -> str:
        """All of the provenance."""
        return json.dumps(self.provenance, indent=1, ensure_ascii=False)


@dataclass(frozen=True)
class Section:
    """What stands under one heading of a page; tables have headings of their own."""

    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[tuple[bytes, str]] = ()  # SVG files with their captions
    title: str = ""
    notes: Sequence[str] = field(default=())  # what a reader must know

    @property
    def embedded(self) -> list[tuple[str, str]]:
        """The pictures as Base64 text."""
        return [(base64.b64encode(svg).decode(), caption) for svg, caption in self.pictures]


def need() -> None:
    """Refuse to start without what a page is made with; raises `LgaFastError`."""
    extras.need("an HTML page", ["jinja2", "matplotlib"], "studies")


def page(title: str, sections: Sequence[Section], origin: Origin) -> str:
    """The page, with `origin` under "How this was made"."""
    import jinja2

    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template(_TEMPLATE)
    return template.render(title=title, sections=sections, origin=origin)


def options_table(
    values: Mapping[str, Any], source: Mapping[str, str] | None = None, title: str = "Options"
) -> Table:
    """Options with their values and, where it is known, where each came from."""
    columns = ("option", "value", *(["from"] if source else []))
    rows = (
        (name, _shown(value), *([source.get(name, "")] if source else []))
        for name, value in values.items()
    )
    return Table(title, columns, tuple(rows), words=True)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(one)}" for key, one in value.items())
    return "–" if value is None else str(value)
