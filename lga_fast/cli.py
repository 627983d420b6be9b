"""Command line of lga_fast; a command's modules are imported when it is called."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lga_fast import registry
from lga_fast.errors import LgaFastError

if TYPE_CHECKING:
    from lga_fast.records import LayerRanking


class _Names(click.ParamType):
    """One member of a package, or several with commas between."""

    name = "names"

    def __init__(self, package: str) -> None:
        self._choice = click.Choice(registry.names(package))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return f"{self._choice.get_metavar(param, ctx)}[,...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        parts = value if isinstance(value, list) else value.split(",")
        return [self._choice.convert(part.strip(), param, ctx) for part in dict.fromkeys(parts)]


class _Commands(click.Group):
    """Builds a command when it is asked for, and shows its errors as one paragraph."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["select", "list"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return {"select": _select, "list": lambda: _list}.get(cmd_name, lambda: None)()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LgaFastError as error:
            raise click.ClickException(str(error)) from error


def _version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from lga_fast import __version__, ops

    click.echo(f"lga_fast {__version__}")
    for device, kernels in ops.kernels().items():
        click.echo(f"{device}: {kernels}")
    ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and which kernels serve which device.",
)
def main() -> None:
    """Find the layer of a language model where a fact is best edited."""


@click.command("list")
def _list() -> None:
    """List selectors, editors, data sets and model families."""
    from rich.console import Console
    from rich.table import Table

    for folder in ("selectors", "editors", "datasets", "models.families"):
        package = f"lga_fast.{folder}"
        table = Table(title=folder.rpartition(".")[2], box=None, title_justify="left")
        table.add_column(style="bold")
        table.add_column()
        for name in registry.names(package):
            table.add_row(name, _first_line(f"{package}.{name}"))
        Console().print(table, "")


def _first_line(module: str) -> str:
    """First line of a module's docstring, without importing the module."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def _select() -> click.Command:
    """The select command; its last options are the fields of the selectors."""
    command = click.Command("select", callback=_run_select, help=_SELECT_HELP)
    command.params += [
        click.Option(
            ["--model", "source"],
            default="atlas",
            show_default=True,
            help="Hub id, folder, or the embedded atlas (atlas, atlas-llama).",
        ),
        click.Option(
            ["--data"],
            default="atlas",
            show_default=True,
            help="File of edits, NAME=FILE to say which data set it is, or atlas.",
        ),
        click.Option(
            ["--proxy"],
            type=click.IntRange(min=1),
            default=30,
            show_default=True,
            help="Number of proxy facts to draw.",
        ),
        click.Option(
            ["--seed"], type=int, default=42, show_default=True, help="Seed of all that is random."
        ),
        click.Option(["--device"], help="cpu, cuda, or auto to spread over several devices."),
        click.Option(["--dtype"], help="float32, bfloat16, ...; default: the checkpoint's."),
        click.Option(["--memory-budget"], help="Memory beside the weights, e.g. 8GiB."),
        click.Option(
            ["--selector"],
            type=_Names("lga_fast.selectors"),
            default="lga",
            show_default=True,
            help="How to choose the layer; several with commas between, e.g. lga,lga_new,salem, "
            "which share one scoring pass.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON."),
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder for ranking.json, layers.png and layers.svg; of several selectors "
            "ranking-NAME.json and so on.",
        ),
        *_selector_options(),
    ]
    return command


_SELECT_HELP = """Choose the layer to edit, from a few proxy facts and without any edit.

Without --model and --data it runs on the embedded atlas."""


def _selector_options() -> list[click.Option]:
    """One option per field of any selector; a field's text is written where the field is."""
    owners: dict[str, list[str]] = {}
    options: dict[str, click.Option] = {}
    for name in registry.names("lga_fast.selectors"):
        kind = registry.member("lga_fast.selectors", name).Selector
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            owners.setdefault(field.name, []).append(name)
            if field.name != "seed" and field.name not in options:
                flag = "--" + field.name.replace("_", "-")
                text = field.metadata["help"]
                if field.default is not None and hints[field.name] is not bool:
                    text += f"  [default: {field.default}]"
                options[field.name] = click.Option(
                    [flag, field.name], help=text, **_click_type(hints[field.name])
                )
    for name, option in options.items():
        option.help = f"{', '.join(owners[name])}: {option.help}"
    return list(options.values())


def _click_type(hint: Any) -> dict[str, Any]:
    if hint is bool:
        return {"is_flag": True, "default": None}
    if typing.get_origin(hint) is typing.Literal:
        return {"type": click.Choice(typing.get_args(hint))}
    plain = [t for t in typing.get_args(hint) if t is not type(None)] or [hint]
    return {"type": plain[0]}


def _run_select(
    source: str,
    data: str,
    proxy: int,
    seed: int,
    selector: list[str],
    as_json: bool,
    out: Path | None,
    device: str | None,
    dtype: str | None,
    memory_budget: str | None,
    **options: Any,
) -> None:
    import transformers
    from rich.console import Console

    from lga_fast import load, select_layer
    from lga_fast.reports import table

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    given = {name: value for name, value in options.items() if value is not None}
    members = [registry.member("lga_fast.selectors", name).Selector for name in selector]
    if any("seed" in member.__dataclass_fields__ for member in members):
        given["seed"] = seed
    edits = _proxy_facts(data, proxy, seed)
    model = load(source, device=device, dtype=dtype, memory_budget=memory_budget)
    rankings = select_layer(model, edits, selector, **given)
    written = _write(rankings, out) if out else []
    if as_json:
        plain = [dataclasses.asdict(ranking) for ranking in rankings.values()]
        result = plain[0] if len(plain) == 1 else dict(zip(rankings, plain, strict=True))
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    for ranking in rankings.values():
        table.show(ranking, Console())
    if out:
        click.echo(f"Written to {out}: {', '.join(written)}")


def _write(rankings: Mapping[str, LayerRanking], out: Path) -> list[str]:
    """Write every ranking and its figures into `out`; the names of the files."""
    from lga_fast.reports import json, plot

    out.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for selector, ranking in rankings.items():
        which = f"-{selector}" if len(rankings) > 1 else ""
        files = [f"ranking{which}.json", f"layers{which}.png", f"layers{which}.svg"]
        json.write(ranking, out / files[0])
        plot.write(ranking, *(out / file for file in files[1:]))
        names += files
    return names


def _proxy_facts(data: str, proxy: int, seed: int) -> Any:
    from lga_fast import datasets

    name, _, file = data.rpartition("=")
    if name:
        edits = datasets.load_edits(name, file)
    elif data in registry.names("lga_fast.datasets"):
        edits = datasets.load_edits(data)
    else:
        edits = datasets.load_edits(datasets.of_file(data), data)
    return edits if proxy >= len(edits) else datasets.split(edits, proxy, seed).proxy
