"""Run one of the paper's experiments; an interrupted run resumes.

Without --model and --data it runs on both embedded atlas models. It writes JSON, tables in
Markdown, CSV and LaTeX, figures (PNG, SVG, PDF), one HTML page, and all options as YAML, with which
`lga-fast run FILE` repeats it. Editor options that are not given come from --config, then from the
model's own recommendation, then from --preset, and last from the defaults shown below.
"""

from __future__ import annotations

from typing import Any

import click

from lga_fast import registry
from lga_fast.commands import _field_options, _options, _static

_STUDIES = "lga_fast.studies"
_EDITORS = "lga_fast.editors"


def command() -> click.Command:
    """The command; its last options are the fields of the studies and of the editors."""
    defaults = {n: f.default for n, f in _static.module(_STUDIES).Setting.fields.items()}
    editors = _options.Names(_EDITORS)
    study = click.Command("study", callback=_run, help=f"{__doc__}\n{_summaries()}")
    study.params += [
        click.Argument(["study"], type=click.Choice(registry.names(_STUDIES))),
        click.Option(
            ["--model", "models"],
            multiple=True,
            default=defaults["models"],
            show_default=True,
            help="As for `lga-fast select`. Can be repeated.",
        ),
        *_options.placement(),
        click.Option(
            ["--data"],
            multiple=True,
            default=["atlas"],
            show_default=True,
            help="File of edit requests, NAME=FILE to name its data set, or atlas. Can be "
            "repeated.",
        ),
        click.Option(
            ["--editor", "editors"],
            type=editors,
            default=",".join(defaults["editors"]),
            show_default=True,
            help=f"Editing method; several are separated by commas. {editors.listed}",
        ),
        *_options.hyperparameters(),
        _options.count("--proxy", defaults["proxy"], "Number of facts on which to choose layers."),
        _options.count("--test", defaults["test"], "Number of facts on which to measure them."),
        _options.seed(),
        _options.metrics(defaults["metrics"]),
        _options.count(
            "--jobs", defaults["jobs"], "Number of processes that edit, sharing the CPU threads."
        ),
        _options.folder("--out", "Folder to write to.", default="out/study", show_default=True),
        *_field_options.fields(_STUDIES, "Study", taken=["seed"]),
        *_field_options.fields(_EDITORS, "Editor", taken=["seed", "layers"]),  # it edits each layer
    ]
    return study


def _summaries() -> str:
    """A paragraph for each study."""
    return "\n\n".join(f"{n}: {registry.summary(_STUDIES, n)}" for n in registry.names(_STUDIES))


def _run(**options: Any) -> None:
    from lga_fast.commands._run_study import run

    run(**options)
