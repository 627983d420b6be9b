"""Say what edits change, for which facts and how they were made.

SOURCES are files of edits, or folders of edited models or adapters, which record their edits.
"""

from __future__ import annotations

from typing import Any

import click

from lga_fast.commands import _options


def command() -> click.Command:
    """The command."""
    info = click.Command("info", callback=_run, help=__doc__)
    info.params += [_options.paths("sources", nargs=-1), _options.as_json()]
    return info


def _run(**options: Any) -> None:
    from lga_fast.commands._run_serving import info

    info(**options)
