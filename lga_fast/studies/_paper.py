"""The numbers of arXiv 2602.20207, to stand beside a study of the same model, data and editor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lga_fast.studies._t_tests import TTest, t_test_from_moments
from lga_fast.studies._trials import Trial

SELECTORS = (2, 9, 10, 14, 15)  # tables of what is measured at the layers that selectors choose

# Names in use for what the paper calls otherwise. Its Table 1 shortens GPT-2 XL to GPT-2, which is
# another model's name.
_ALIASES = {
    "llama27bhf": "llama27b",
    "gemma312bpt": "gemma312b",
    "wikidatacounterfact": "wikicounterfact",
    "wikidatarecent": "wikirecent",
}


def rows() -> list[dict[str, Any]]:
    """The rows of Tables 1 to 10, 14 and 15 as values by column, with the number of the `table`.

    Values are means over the paper's test facts, in [0, 1]. Rows of selectors have their `regret`
    too, in rewrite accuracy: the golden layer of the test facts (Table 3) minus the selector's;
    None for editors that Table 3 lacks. `paper_tables.json` has notes on single tables.
    """
    text = Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8")
    read = [
        {"table": int(number)} | dict(zip(table["columns"], row, strict=True))
        for number, table in json.loads(text)["tables"].items()
        for row in table["rows"]
    ]
    trial = ("model", "data", "editor")
    golden = {tuple(row[key] for key in trial): row["test"] for row in read if row["table"] == 3}
    for row in read:
        if row["table"] in SELECTORS:
            best = golden.get(tuple(row[key] for key in trial))
            row["regret"] = None if best is None else best - row["rewrite"]
    return read


def rows_of(trial: Trial) -> list[dict[str, Any]]:
    """Rows on a trial's model, data set and editor.

    A model goes by the last part of its Hub id or folder; a data set by its name in the study or
    by its loader and form. Case and punctuation do not count.
    """
    loaded = trial.setting.data[trial.data].provenance
    same = {
        "model": {_plain(Path(trial.source).name)},
        "data": {_plain(n) for n in (trial.data, loaded.name, loaded.name + loaded.form)},
        "editor": {_plain(trial.editor)},
    }
    return [row for row in rows() if all(_plain(row[key]) in same[key] for key in same)]


def t_test(row: dict[str, Any]) -> TTest:
    """The test of a row of Table 1, from its means and standard deviations."""
    best, golden = ((row[k], row[f"{k}_sd"], row["facts"]) for k in ("best_of_each", "golden"))
    return t_test_from_moments(*best, *golden)


def _plain(name: str) -> str:
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return _ALIASES.get(letters, letters)
