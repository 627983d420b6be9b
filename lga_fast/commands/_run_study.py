"""The work of `lga-fast study`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from lga_fast import registry
from lga_fast.commands import _field_options, _inputs, _recipe
from lga_fast.datasets import LoadedEdits
from lga_fast.editors import overridden
from lga_fast.studies import Setting
from lga_fast.studies import study as run_study

_EDITORS = "lga_fast.editors"


def run(
    study: str,
    models: tuple[str, ...],
    data: tuple[str, ...],
    editors: list[str],
    metrics: list[str],
    config: Path | None,
    out: Path,
    **options: Any,
) -> None:
    """Run the study, write its report and its options to `out` and print its text."""
    _inputs.refuse_ranks("study", "--jobs N spreads a study over the cores of one machine")
    _inputs.check_folders(out)
    _inputs.silence_transformers()
    shared = {key: options.pop(key) for key in list(options) if key in Setting.__dataclass_fields__}
    hyperparameters = _field_options.take(_EDITORS, options)
    registry.configured_together(_EDITORS, editors, "Editor", hyperparameters)
    setting = Setting(
        out=out,
        data=_by_name(data),
        models=models,
        editors=tuple(editors),
        metrics=tuple(metrics),
        config=overridden(str(config) if config else None, hyperparameters),
        **shared,
    )
    command = _recipe.command_line()
    report = run_study(study, setting, command=command, **_field_options.specified(options))
    _recipe.write(out / f"{study}.yaml")
    console = Console(highlight=False, markup=False)
    console.print(report.title, style="bold")
    console.print(*report.text, sep="\n")
    files = ", ".join(f"{study}.{suffix}" for suffix in ("html", "md", "json", "yaml"))
    click.echo(f"Written to {out}: {files}, tables and figures")


def _by_name(data: tuple[str, ...]) -> dict[str, LoadedEdits]:
    """Data sets by the stems of their files."""
    by_name: dict[str, LoadedEdits] = {}
    for source in data:
        name = Path(source.rpartition("=")[2]).stem
        if name in by_name:
            raise click.BadParameter(
                f"two data sets are called {name!r}: expected files of different names",
                param_hint="--data",
            )
        by_name[name] = _inputs.load_requests(source)
    return by_name
