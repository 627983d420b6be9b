"""Results of a study for people and for programs: JSON, tables, figures, one HTML page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lga_fast import provenance
from lga_fast.files import write_atomic
from lga_fast.reports import figures, html
from lga_fast.reports.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure with the ending of its files' names and a caption."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Report:
    """A study's result; `data` has every number, the tables what people should read."""

    study: str
    title: str
    text: tuple[str, ...]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    data: dict[str, Any]
    provenance: dict[str, Any]  # what is needed to repeat it

    def write(self, out: Path, command: str = "") -> list[str]:
        """Write all files to the folder `out`, each atomically; returns their names.

        Args:
            out: the folder.
            command: the command line that asked for it, for the page.
        """
        out.mkdir(parents=True, exist_ok=True)
        names = [f"{self.study}.{suffix}" for suffix in ("json", "md", "html")]
        data = {"study": self.study, "made": self.provenance, **self.data}
        text = json.dumps(plain(data), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(out / names[0], text + "\n")
        write_atomic(out / names[1], self.markdown())
        drawn = [(figures.svg(picture.figure), picture.caption) for picture in self.pictures]
        section = html.Section(self.text, self.tables, drawn)
        write_atomic(out / names[2], html.page(self.title, [section], self._origin(command)))
        for i, table in enumerate(self.tables, 1):
            for suffix, content in (("csv", table.csv()), ("tex", table.latex())):
                names.append(f"{self.study}-table{i}.{suffix}")
                write_atomic(out / names[-1], content)
        for picture in self.pictures:
            drawings = [f"{self.study}-{picture.name}.{form}" for form in ("png", "svg", "pdf")]
            figures.write(picture.figure, *(out / name for name in drawings))
            names += drawings
        return names

    def _origin(self, command: str) -> html.Origin:
        """The study's options, and those that every editor had on every model."""
        made = plain(self.provenance)
        own = [key for key in made if key not in (*provenance.environment(), "setting", "data")]
        options = made.get("setting", {}) | {key: made[key] for key in own}
        tables = [html.options_table(options, title=f"Options of {self.study}")]
        for trial in {(t["editor"], t["model"]): t for t in _trials(self.data)}.values():
            config, sources = trial["editor_config"], trial["editor_config_source"]
            title = f"Options of {trial['editor']} on {trial['model']}"
            tables.append(html.options_table(config, sources, title))
        return html.Origin(made, command, tables)

    def markdown(self) -> str:
        """Text and tables, with links to the figures."""
        links = [f"![{p.caption}]({self.study}-{p.name}.png)" for p in self.pictures]
        parts = [f"# {self.title}", *self.text, *(t.markdown() for t in self.tables), *links]
        return "\n\n".join(parts) + "\n"


def _trials(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What `Trial.provenance` gave, wherever a study keeps it."""
    if "editor_config_source" in data:
        yield data
        return
    for value in data.values():
        if isinstance(value, Mapping):
            yield from _trials(value)


def plain(x: Any) -> Any:
    """Plain JSON: arrays and tuples become lists, numbers that are not finite null."""
    if isinstance(x, dict):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    if hasattr(x, "tolist"):
        return plain(x.tolist())
    return None if isinstance(x, float) and not math.isfinite(x) else x


def layers(chosen: Sequence[int]) -> str:
    """Layers as text; of many only their number."""
    return ", ".join(map(str, chosen)) if len(chosen) <= 4 else f"{len(chosen)} layers"


def interval(one: Mapping[str, float]) -> str:
    """A value with its interval as text."""
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
