"""Check that a folder holds a model with these edits and nothing else.

Weights must differ from the base model's only where the edits say, and by what they say up to
rounding; the model must give the new answers; and it must answer the edits' locality probes as the
base model does. Exit code 1 if one of these does not hold.
"""

from __future__ import annotations

from typing import Any

import click

from lga_fast.commands import _options


def command() -> click.Command:
    """The command."""
    verify = click.Command("verify", callback=_run, help=__doc__)
    verify.params += [
        _options.paths("folder", file_okay=False),
        _options.edits("--edit"),
        _options.base(),
        *_options.placement(),
        _options.as_json(),
    ]
    return verify


def _run(**options: Any) -> None:
    from lga_fast.commands._run_serving import verify

    verify(**options)
