"""The command line in each of the processes that torchrun started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from lga_fast import distributed
from lga_fast.errors import RanksError


def launched() -> bool:
    """Whether torchrun started this process along with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def run(main: Callable[[], Any]) -> None:
    """Run `main`, which raises click's errors, together with the other ranks; ends the process."""
    with distributed.ranks():
        try:
            code = main()
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def refuse(command: str, instead: str) -> None:
    """Refuse to run a command in several processes; raises `RanksError`."""
    if (size := distributed.current().size) > 1:
        raise RanksError(f"lga-fast {command} runs in one process, got {size}: {instead}")
