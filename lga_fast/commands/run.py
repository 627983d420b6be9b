"""Run what a YAML file describes: a study, a selection, an edit or an evaluation.

Its keys are the options of `lga-fast study`, without dashes before them. The first key, `study`,
names the study; `command: select`, `edit` or `evaluate` runs another command. Every study writes
such a file beside its results. All keys and values are checked before any work.
"""

from __future__ import annotations

from typing import Any

import click

from lga_fast.commands import _options

_EXAMPLE = """\b
Example of a file:
  study: compare
  model: [atlas, atlas-llama]
  selectors: [reach, lga]
  editor: r_rome
  steps: 20
  out: results
"""


def command() -> click.Command:
    """The command."""
    run = click.Command("run", callback=_run, help=__doc__, epilog=_EXAMPLE)
    run.params += [
        _options.paths("file", dir_okay=False),
        _options.folder("--out", "Folder to write to, instead of the one that the file names."),
    ]
    return run


def _run(**options: Any) -> None:
    from lga_fast.commands._run_run import run

    run(**options)
