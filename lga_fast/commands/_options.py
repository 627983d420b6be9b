"""Options that commands share, and those made of the fields of a registry's members."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import click
from click.core import ParameterSource

from lga_fast import registry
from lga_fast.editors import Preset
from lga_fast.loading import Weights


class Names(click.ParamType):
    """One member of a package, or several with commas between."""

    name = "names"

    def __init__(self, package: str) -> None:
        self._choice = click.Choice(registry.names(package))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """The members, and that there may be several."""
        return f"{self._choice.get_metavar(param, ctx)}[,...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """The names, each once."""
        parts = value if isinstance(value, list) else value.split(",")
        return [self._choice.convert(part.strip(), param, ctx) for part in dict.fromkeys(parts)]


def model() -> list[click.Option]:
    """Which model, and how to load it; for `_inputs.model`."""
    return [
        click.Option(
            ["--model", "source"],
            default="atlas",
            show_default=True,
            help="Hub id, folder, or the embedded atlas (atlas, atlas-llama).",
        ),
        *placement(),
        click.Option(
            ["--memory-budget"],
            help="Memory beside resident weights, or in all with streamed ones, e.g. 8GiB.",
        ),
    ]


def placement() -> list[click.Option]:
    """Where a model goes, and as what."""
    return [
        click.Option(["--device"], help="cpu, cuda, or auto to spread over several devices."),
        click.Option(["--dtype"], help="float32, bfloat16, ...; default: the checkpoint's."),
    ]


def weights() -> click.Option:
    """Where the weights are; for `_inputs.model`."""
    return choice(
        "--weights",
        Weights,
        "In memory, or read block by block while they are used; auto: by what fits.",
    )


def data() -> click.Option:
    """Which edit requests; for `_inputs.edits`."""
    return click.Option(
        ["--data"],
        default="atlas",
        show_default=True,
        help="File of edits, NAME=FILE to say which data set it is, or atlas.",
    )


def editing() -> list[click.Option]:
    """How to edit, and at which layer; for `_inputs.editing`."""
    return [
        click.Option(
            ["--editor"],
            type=click.Choice(registry.names("lga_fast.editors")),
            default="r_rome",
            show_default=True,
            help="How to edit.",
        ),
        *numbers(),
        click.Option(["--layer"], type=int, help="The layer to edit, counted from 0."),
    ]


def numbers() -> list[click.Option]:
    """Where an editor's numbers come from."""
    return [
        choice("--preset", Preset, "Whose numbers hold where nothing else says any."),
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="YAML or JSON file of the editor's options; EasyEdit's hparams as they are.",
        ),
    ]


def metrics(default: Sequence[str]) -> click.Option:
    """What to measure."""
    return click.Option(
        ["--metrics"],
        type=Names("lga_fast.metrics"),
        default=",".join(default),
        show_default=True,
        help="What to measure, with commas between.",
    )


def choice(flag: str, kind: Any, text: str) -> click.Option:
    """One of the values of a Literal, the first of them if none is given."""
    names = typing.get_args(kind)
    return click.Option(
        [flag], type=click.Choice(names), default=names[0], show_default=True, help=text
    )


def proxy(text: str = "Number of proxy facts to draw.") -> click.Option:
    """How many facts a layer is chosen on; for `_inputs.proxy_facts`."""
    return click.Option(
        ["--proxy"],
        type=click.IntRange(min=1),
        default=30,
        show_default=True,
        help=text,
    )


def seed() -> click.Option:
    """The seed of a whole run."""
    return click.Option(
        ["--seed"], type=int, default=42, show_default=True, help="Seed of all that is random."
    )


def as_json() -> click.Option:
    """Whether to print JSON."""
    return click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON.")


def folder(flag: str, text: str, **settings: Any) -> click.Option:
    """A folder to write into; it need not be there."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.Option([flag], type=kind, help=text, **settings)


def fields(package: str, kind: str, taken: Collection[str] = ()) -> list[click.Option]:
    """One option per field of any member's dataclass; its text is written where the field is.

    Args:
        package: of the members.
        kind: what the dataclass is called in every member.
        taken: fields that the command has options for already.
    """
    members = registry.names(package)
    owners: dict[str, dict[str, dataclasses.Field[Any]]] = {}
    options: dict[str, click.Option] = {}
    for name in members:
        made = getattr(registry.member(package, name), kind)
        hints = typing.get_type_hints(made)
        for field in dataclasses.fields(made):
            if field.name not in taken:
                owners.setdefault(field.name, {})[name] = field
                options.setdefault(field.name, _option(field, hints[field.name]))
    for name, option in options.items():
        whose = "" if list(owners[name]) == members else f"{', '.join(owners[name])}: "
        option.help = f"{whose}{option.help}{_defaults(owners[name])}"
    return list(options.values())


def asked(name: str) -> bool:
    """Whether an option of the running command was on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those options of `fields` that were on the command line."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def _option(field: dataclasses.Field[Any], hint: Any) -> click.Option:
    flag = "--" + field.name.replace("_", "-")
    text = field.metadata["help"]
    if hint is bool:  # both ways: what is on may come from a preset or a file
        both = f"{flag}/--no-{flag.removeprefix('--')}"
        return click.Option([both, field.name], default=None, help=text)
    settings = _click_type(hint)
    text += " May be given several times." if settings.get("multiple") else ""
    return click.Option([flag, field.name], help=text, **settings)


def _defaults(owners: Mapping[str, dataclasses.Field[Any]]) -> str:
    """The default of a field in most of its owners, and in those where it is another."""
    whose: dict[Any, list[str]] = {}
    for name, field in owners.items():
        whose.setdefault(field.default, []).append(name)
    usual = max(whose, key=lambda value: len(whose[value]))
    parts = [] if usual in (None, ()) or isinstance(usual, bool) else [str(usual)]
    parts += [f"{', '.join(names)}: {value}" for value, names in whose.items() if value != usual]
    return f"  [default: {'; '.join(parts)}]" if parts else ""


def _click_type(hint: Any) -> dict[str, Any]:
    if isinstance(hint, UnionType):  # of a type and None
        (hint,) = set(typing.get_args(hint)) - {NoneType}
    if typing.get_origin(hint) is typing.Literal:
        return {"type": click.Choice(typing.get_args(hint))}
    if typing.get_origin(hint) is tuple:
        return _click_type(typing.get_args(hint)[0]) | {"multiple": True}
    return {"type": hint}
