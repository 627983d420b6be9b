"""What holds of every command."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from lga_fast import registry
from lga_fast.cli import main

NAMES = registry.names("lga_fast.commands")


@pytest.mark.parametrize("name", NAMES)
def test_help_describes_the_command_and_every_option(name):
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0, done.output
    command = registry.member("lga_fast.commands", name).command()
    assert isinstance(command, click.Command) and command.help
    undocumented = [
        option.opts[0]
        for option in command.params
        if isinstance(option, click.Option) and not (option.help or option.hidden)
    ]
    assert not undocumented


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused_by_name(name):
    done = CliRunner().invoke(main, [name, "--no-such-option"])
    assert done.exit_code == 2 and "--no-such-option" in done.output


@pytest.mark.parametrize("name", [None, *NAMES])
def test_help_fits_eighty_columns(name):
    done = CliRunner().invoke(main, [*([name] if name else []), "--help"], terminal_width=80)
    assert not [line for line in done.output.splitlines() if len(line) > 80]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_can_be_quiet_and_debugged(name):
    text = CliRunner().invoke(main, [name, "--help"]).output
    assert "--quiet" in text and "--debug" in text
