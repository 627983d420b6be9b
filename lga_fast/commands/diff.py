"""Show which tensors of two model folders differ: shape, norm and rank of each change."""

from __future__ import annotations

from typing import Any

import click

from lga_fast.commands import _options


def command() -> click.Command:
    """The command."""
    diff = click.Command("diff", callback=_run, help=__doc__)
    diff.params += [
        _options.paths("first", file_okay=False),
        _options.paths("second", file_okay=False),
        _options.as_json(),
    ]
    return diff


def _run(**options: Any) -> None:
    from lga_fast.commands._run_serving import diff

    diff(**options)
