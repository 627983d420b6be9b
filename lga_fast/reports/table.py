"""A table of text, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import dataclass

_MINUS_ZERO = re.compile(r"-(0(?:\.0*)?)(?![\d.e])")
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "α": r"$\alpha$",
    "φ": r"$\varphi$",
    "Σ": r"$\Sigma$",
    "–": "--",
}


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the rows.

    A number that is zero once it is rounded has no sign, and what is no number is a dash. Cells are
    numbers, aligned to the right, unless `words` says otherwise.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: bool = False

    def __post_init__(self) -> None:
        """Mend what formatting leaves of -0 and NaN."""
        object.__setattr__(self, "rows", tuple(tuple(map(_mended, row)) for row in self.rows))

    def markdown(self) -> str:
        """The table in GitHub's Markdown, under its title."""
        rule = ["---", *["---" if self.words else "---:"] * (len(self.columns) - 1)]
        lines = [" | ".join(_cell(c) for c in row) for row in (self.columns, rule, *self.rows)]
        table = "\n".join(f"| {line} |" for line in lines)
        note = html.escape(self.note, quote=False)
        return f"## {_cell(self.title)}\n\n{table}\n" + (f"\n{note}\n" if note else "")

    def csv(self) -> str:
        """Columns and rows, for programs."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.columns, *self.rows])
        return file.getvalue()

    def latex(self) -> str:
        """A table with its title as caption, for the package booktabs."""
        head, *rows = (
            " & ".join(map(_escaped, row)) + r" \\" for row in (self.columns, *self.rows)
        )
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escaped(self.title)}}}"]
        columns = "l" + ("l" if self.words else "r") * (len(self.columns) - 1)
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head]
        lines += [r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip\footnotesize {_escaped(self.note)}"] * bool(self.note)
        return "\n".join([*lines, r"\end{table}", ""])


def _mended(cell: str) -> str:
    return "–" if cell == "nan" else _MINUS_ZERO.sub(_without_sign, cell)


def _without_sign(match: re.Match[str]) -> str:
    """The zero alone, unless the minus joins two words or numbers."""
    before = match.string[: match.start()]
    return match[0] if before and before[-1].isalnum() else match[1]


def _cell(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
