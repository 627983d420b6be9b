"""Options that commands share; those that members of a registry have are in `_field_options`.

Nothing here imports torch: `--help` and shell completion build every option.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lga_fast import named_models, registry
from lga_fast.commands import _static
from lga_fast.options import SEEDS


class Names(click.ParamType):
    """One or more members of a package, separated by commas."""

    name = "names"

    def __init__(self, package: str) -> None:
        """Any of the members of `package`."""
        self._choice = click.Choice(registry.names(package))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """That several may be given; the help text has the members, which fill lines."""
        return "NAME[,...]"

    @property
    def listed(self) -> str:
        """The members, for a help text."""
        return f"Any of {', '.join(self._choice.choices)}."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """The names, without repetitions."""
        parts = value if isinstance(value, list) else value.split(",")
        return [self._choice.convert(part.strip(), param, ctx) for part in dict.fromkeys(parts)]


def model() -> list[click.Option]:
    """Which model, and how to load it; for `_inputs.load_model`."""
    return [
        click.Option(
            ["--model", "source"],
            default="atlas",
            show_default=True,
            help=f"Hub id, folder, GGUF file, or a name: {', '.join(named_models.NAMES)}.",
        ),
        *placement(),
        choice(
            "--weights",
            "lga_fast.loading",
            "Weights",
            "Keep the weights in memory, or stream them block by block; auto streams only if they "
            "do not fit.",
        ),
        click.Option(
            ["--memory-budget"],
            help="Memory to use, e.g. 8GiB: in addition to resident weights, or including streamed "
            "ones.",
        ),
        click.Option(
            ["--chat"], is_flag=True, help="Render prompts by the tokenizer's chat template."
        ),
        click.Option(["--revision"], help="Branch, tag or commit of a Hub id."),
        click.Option(
            ["--trust-remote-code"],
            is_flag=True,
            help="Run the code that comes with the model's checkpoint.",
        ),
        click.Option(
            ["--allow-pickle"], is_flag=True, help="Also take weights from pickles (*.bin)."
        ),
        click.Option(
            ["--attn-implementation"],
            help="eager, sdpa, ...; default: transformers' choice.",
        ),
    ]


def placement() -> list[click.Option]:
    """Device and dtype of a model."""
    return [
        click.Option(
            ["--device"], help="cpu, cuda, or auto to spread the model over several devices."
        ),
        click.Option(["--dtype"], help="float32, bfloat16, ...; default: the checkpoint's."),
    ]


def data() -> list[click.Option]:
    """Which edit requests; for `_inputs.load_requests`."""
    return [
        click.Option(
            ["--data"],
            default="atlas",
            show_default=True,
            help="File of edit requests, NAME=FILE to name its data set, or atlas.",
        ),
        fact_token(),
    ]


def fact_token() -> click.Option:
    """Which token of a prompt editors change."""
    return choice(
        "--fact-token",
        "lga_fast.datasets",
        "FactToken",
        "The token that editors change: the subject's last one, or the prompt's, for data without "
        "subjects.",
    )


def editing() -> list[click.Option]:
    """Which editor, and at which layer; for `_inputs.editor_arguments`."""
    return [
        click.Option(
            ["--editor"],
            type=click.Choice(registry.names("lga_fast.editors")),
            default="r_rome",
            show_default=True,
            help="Editing method.",
        ),
        *hyperparameters(),
        click.Option(
            ["--layer"], type=click.IntRange(min=0), help="Layer to edit, counted from 0."
        ),
    ]


def hyperparameters() -> list[click.Option]:
    """Where an editor's hyperparameters come from."""
    return [
        choice(
            "--preset",
            "lga_fast.editors",
            "Preset",
            "Published hyperparameters to use where nothing else sets them.",
        ),
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="YAML or JSON file of editor options; EasyEdit's hparams files work unchanged.",
        ),
    ]


def metrics(default: Sequence[str]) -> click.Option:
    """What to measure."""
    names = Names("lga_fast.metrics")
    return click.Option(
        ["--metrics"],
        type=names,
        default=",".join(default),
        show_default=True,
        help=f"What to measure, separated by commas. {names.listed}",
    )


def choice(flag: str, module: str, alias: str, text: str) -> click.Option:
    """One of the values of `alias`, a Literal in `module`; the first is the default."""
    values = typing.get_args(_static.module(module)[alias])
    return click.Option(
        [flag], type=click.Choice(values), default=values[0], show_default=True, help=text
    )


def count(flag: str, default: int | None, text: str) -> click.Option:
    """A number of things, at least one."""
    return click.Option(
        [flag],
        type=click.IntRange(min=1),
        default=default,
        show_default=default is not None,
        help=text,
    )


def proxy(text: str = "Number of proxy facts to draw.") -> click.Option:
    """How many facts the layer is chosen on; for `_inputs.draw_proxy`."""
    return count("--proxy", 30, text)


def seed() -> click.Option:
    """The seed of a whole run."""
    return click.Option(
        ["--seed"],
        type=click.IntRange(SEEDS["min"], SEEDS["max"]),
        default=42,
        show_default=True,
        help="Random seed.",
    )


def as_json() -> click.Option:
    """Whether to print JSON."""
    return click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON.")


def folder(flag: str, text: str, **settings: Any) -> click.Option:
    """A folder to write to; it need not exist."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.Option([flag], type=kind, help=text, **settings)


def on_command_line(name: str) -> bool:
    """Whether the user gave the running command this option."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def paths(name: str, nargs: int = 1, **settings: Any) -> click.Argument:
    """One path that exists, or several."""
    kind = click.Path(path_type=Path, exists=True, **settings)
    return click.Argument([name], type=kind, nargs=nargs, required=True)


def edits(flag: str | None = None) -> click.Parameter:
    """Files of edits, as arguments or as a repeated option."""
    if flag is None:
        return paths("edits", nargs=-1, dir_okay=False)
    kind = click.Path(path_type=Path, exists=True, dir_okay=False)
    text = "File of an edit. Can be repeated."
    return click.Option([flag, "edits"], type=kind, multiple=True, required=True, help=text)


def base() -> click.Option:
    """The model without the edits."""
    text = "Hub id or folder of the model without edits; default: as the folder's record says."
    return click.Option(["--model", "base"], help=text)


def page() -> click.Option:
    """Where to write a page; for `_inputs.check_page`."""
    return file("--html", "Write the report as one HTML file that opens without a network.")


def file(flag: str, text: str) -> click.Option:
    """A file to write."""
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.Option([flag], type=kind, help=text)
