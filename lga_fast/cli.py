"""The command line of lga_fast; a command's module is imported when the command is named."""

from __future__ import annotations

import sys
from typing import Any

import click

from lga_fast import distributed, progress, registry
from lga_fast.errors import LgaFastError, shortened

_COMMANDS = "lga_fast.commands"
_DEBUG = "lga_fast.debug"  # in a context's `meta`
_EXIT_CODES = """\b
Exit codes:
  0  done
  1  an error, an interruption, or a check of `verify` that failed
  2  a command line that cannot be followed
"""


class _Commands(click.Group):
    """Finds its commands in their folder, and shows their errors as one paragraph."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return registry.names(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in registry.names(_COMMANDS):
            return None
        command = registry.member(_COMMANDS, cmd_name).command()
        command.params += _of_every_command()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = registry.names(_COMMANDS)
        with formatter.section("Commands"):
            formatter.write_dl([(name, registry.summary(_COMMANDS, name)) for name in names])

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command, under torchrun together with the other processes."""
        if not distributed.started_together():
            return super().main(*args, **options)
        with distributed.ranks():
            try:
                code = super().main(*args, **options | {"standalone_mode": False})
            except click.ClickException as error:
                error.show()
                sys.exit(error.exit_code)
            except click.Abort:
                sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:  # its message has the value that was given
            message = shortened(error.format_message(), 2000)
            raise click.UsageError(message, error.ctx) from error
        except LgaFastError as error:
            if ctx.meta.get(_DEBUG):
                raise
            raise click.ClickException(str(error)) from error


def _of_every_command() -> list[click.Option]:
    """Options that commands do not get to see."""
    settings = {"is_flag": True, "expose_value": False, "is_eager": True}
    return [
        click.Option(
            ["--quiet"],
            help="Write no progress and no remarks to stderr, only warnings and errors.",
            callback=_silence,
            **settings,
        ),
        click.Option(
            ["--debug"], help="Show where an error was raised.", callback=_debug, **settings
        ),
    ]


def _silence(ctx: click.Context, _param: click.Parameter, requested: bool) -> None:
    if requested:
        ctx.with_resource(progress.silenced())


def _debug(ctx: click.Context, _param: click.Parameter, requested: bool) -> None:
    ctx.meta[_DEBUG] = requested


def _version(ctx: click.Context, _param: click.Parameter, requested: bool) -> None:
    if not requested or ctx.resilient_parsing:
        return
    from lga_fast import __version__, ops

    click.echo(f"lga_fast {__version__}")
    for device, kernels in ops.kernels().items():
        click.echo(f"{device}: {kernels}")
    ctx.exit()


@click.group(
    cls=_Commands, epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version, and which kernels each device uses.",
)
def main() -> None:
    """Find the layer of a language model in which to edit a fact, and edit it there."""
