"""README's example of an edit; its command with `--json` wrote results/edit.json."""

from __future__ import annotations

from typing import Any

from lga_fast.metrics import Average
from lga_fast.reports import answers_table
from lga_fast.reports.answers import Answer, AnswerChange, EditReport

try:
    from benchmarks._markdown import panel, results
except ImportError:
    from _markdown import panel, results


def example() -> str:
    """The panel that the command prints on a terminal."""
    return panel(answers_table.show, _report(results("edit")))


def _report(plain: dict[str, Any]) -> EditReport:
    answers = tuple(
        AnswerChange(**{**one, "before": Answer(**one["before"]), "after": Answer(**one["after"])})
        for one in plain["answers"]
    )
    shares = {
        when: {name: Average(**share) for name, share in plain[when].items()}
        for when in ("before", "after")
    }
    return EditReport(**{**plain, **shares, "answers": answers, "notes": tuple(plain["notes"])})
