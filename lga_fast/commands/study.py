"""Run one of the paper's experiments; a run that was stopped goes on.

Without --model and --data it runs on both models of the embedded atlas. It writes JSON, a Markdown
table, figures and one HTML page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from lga_fast import registry
from lga_fast.commands import _inputs, _options, _ranks
from lga_fast.commands._text import first_line
from lga_fast.datasets import LoadedEdits
from lga_fast.studies import METRICS, Setting, study

_STUDIES = "lga_fast.studies"


def command() -> click.Command:
    """The command; its last options are the fields of the studies."""
    made = click.Command("study", callback=_run, help=f"{__doc__}\n\b\n{_studies()}")
    made.params += [
        click.Argument(["name"], type=click.Choice(registry.names(_STUDIES))),
        click.Option(
            ["--model", "models"],
            multiple=True,
            default=["atlas", "atlas-llama"],
            show_default=True,
            help="Hub id, folder, or embedded atlas. May be given several times.",
        ),
        *_options.placement(),
        click.Option(
            ["--data"],
            multiple=True,
            default=["atlas"],
            show_default=True,
            help="File of edits, NAME=FILE to say which data set it is, or atlas. May be given "
            "several times.",
        ),
        click.Option(
            ["--editor", "editors"],
            type=_options.Names("lga_fast.editors"),
            default="r_rome",
            show_default=True,
            help="How to edit; several with commas between.",
        ),
        *_options.numbers(),
        _size("--proxy", Setting.proxy, "Facts that layers are chosen on."),
        _size("--test", Setting.test, "Facts that they are measured on."),
        _options.seed(),
        _options.metrics(METRICS),
        _size("--jobs", Setting.jobs, "Processes that edit, each with its share of the threads."),
        _options.folder("--out", "Folder to write into.", default="out/study", show_default=True),
        *_options.fields(_STUDIES, "Study", taken=["seed"]),
    ]
    return made


def _studies() -> str:
    """A line for each study."""
    names = registry.names(_STUDIES)
    return "\n".join(f"{name}: {first_line(f'{_STUDIES}.{name}')}" for name in names)


def _size(flag: str, default: int, text: str) -> click.Option:
    kind = click.IntRange(min=1)
    return click.Option([flag], type=kind, default=default, show_default=True, help=text)


def _run(
    name: str,
    models: tuple[str, ...],
    data: tuple[str, ...],
    editors: list[str],
    metrics: list[str],
    config: Path | None,
    out: Path,
    **asked: Any,
) -> None:
    import transformers

    _ranks.alone("study", "--jobs N shares a study among the processors of one machine")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    shared = {key: asked.pop(key) for key in list(asked) if key in Setting.__dataclass_fields__}
    setting = Setting(
        out=out,
        data=_named(data),
        models=models,
        editors=tuple(editors),
        metrics=tuple(metrics),
        config=str(config) if config else None,
        **shared,
    )
    report = study(name, setting, **_options.given(asked))
    console = Console(highlight=False, markup=False)
    console.print(report.title, style="bold")
    console.print(*report.text, sep="\n")
    click.echo(f"Written to {out}: {name}.html, {name}.md, {name}.json and figures")


def _named(data: tuple[str, ...]) -> dict[str, LoadedEdits]:
    """Data sets by the stems of their files."""
    found: dict[str, LoadedEdits] = {}
    for one in data:
        name = Path(one.rpartition("=")[2]).stem
        if name in found:
            raise click.BadParameter(
                f"two data sets are called {name!r}: expected files of different names",
                param_hint="--data",
            )
        found[name] = _inputs.edits(one)
    return found
