"""Choose the layer to edit from a few proxy facts, without making an edit.

Without --model and --data it runs on the embedded atlas.
"""

from __future__ import annotations

from typing import Any

import click

from lga_fast.commands import _field_options, _options

_SELECTORS = "lga_fast.selectors"


def command() -> click.Command:
    """The command; its last options are the fields of the selectors."""
    select = click.Command("select", callback=_run, help=__doc__)
    names = _options.Names(_SELECTORS)
    select.params += [
        *_options.model(),
        *_options.data(),
        _options.proxy(),
        _options.seed(),
        click.Option(
            ["--selector"],
            type=names,
            default="lga",
            show_default=True,
            help="How to choose the layer. Several selectors, separated by commas, share one "
            f"scoring pass, e.g. lga,lga_new,salem. {names.listed}",
        ),
        click.Option(["--plan"], is_flag=True, help="Print the bytes to hold and read, then exit."),
        _options.as_json(),
        _options.folder(
            "--out",
            "Folder for ranking.json, layers.png and layers.svg; with several selectors "
            "ranking-NAME.json and so on.",
        ),
        _options.page(),
        *_field_options.fields(_SELECTORS, "Selector", taken=["seed"]),
    ]
    return select


def _run(**options: Any) -> None:
    from lga_fast.commands._run_select import run

    run(**options)
