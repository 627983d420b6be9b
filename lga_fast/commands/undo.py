"""Take the edits out of a model folder again, bit for bit.

The tensors that differ from the base model's are overwritten with the base model's, in place; a run
that is interrupted can be repeated. To keep some of the edits, `apply` those to the base model.
"""

from __future__ import annotations

from typing import Any

import click

from lga_fast.commands import _options


def command() -> click.Command:
    """The command."""
    undo = click.Command("undo", callback=_run, help=__doc__)
    undo.params += [_options.paths("folder", file_okay=False), _options.base()]
    return undo


def _run(**options: Any) -> None:
    from lga_fast.commands._run_serving import undo

    undo(**options)
