"""List selectors, editors, metrics, data sets and model families."""

from __future__ import annotations

import click

from lga_fast import registry

_PACKAGES = ("selectors", "editors", "metrics", "datasets", "models.families")


def command() -> click.Command:
    """The command."""
    return click.Command("list", callback=_run, help=__doc__)


def _run() -> None:
    from rich.console import Console
    from rich.table import Table

    for folder in _PACKAGES:
        package = f"lga_fast.{folder}"
        table = Table(title=folder.rpartition(".")[2], box=None, title_justify="left")
        table.add_column(style="bold")
        table.add_column()
        for name in registry.names(package):
            table.add_row(name, registry.summary(package, name))
        Console().print(table, "")
