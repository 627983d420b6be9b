"""The command line on every rank that torchrun started: one prints, and all is said once."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

import click

from lga_fast import distributed
from lga_fast.distributed import Ranks
from lga_fast.errors import LostRank, RanksError


def launched() -> bool:
    """Whether torchrun started this process beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def run(main: Callable[[], Any]) -> None:
    """Run `main`, which raises click's errors, together with the other ranks; ends the process.

    An error that torchrun is to report with its traceback leaves here as it is.
    """
    from torch.distributed.elastic.multiprocessing.errors import record

    record(_together)(main)


def alone(command: str, instead: str) -> None:
    """Refuse several ranks; raises `RanksError`."""
    if (size := distributed.current().size) > 1:
        raise RanksError(f"lga-fast {command} runs in one process, got {size}: {instead}")


def _together(main: Callable[[], Any]) -> None:
    with distributed.ranks() as ranks, _said_once(ranks), _first_prints(ranks):
        try:
            code = main()
        except click.Abort:
            sys.exit(1)
        except click.ClickException as error:
            lost = isinstance(error.__cause__, LostRank)
            if not (lost and _failed(ranks)) and _first_to(ranks, error.format_message()):
                error.show()
            if not lost:
                _fail(ranks)
            sys.exit(error.exit_code)
        except Exception:
            _fail(ranks)
            raise
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _first_prints(ranks: Ranks) -> Iterator[None]:
    if ranks.is_rank_zero:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def _said_once(ranks: Ranks) -> Iterator[None]:
    """A warning that several ranks give is shown by the first of them."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def once(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if _first_to(ranks, f"{category.__name__}: {message}"):
                show(message, category, *place, **more)

        warnings.showwarning = once
        yield


def _first_to(ranks: Ranks, text: str) -> bool:
    """Whether no other rank has said this."""
    key = hashlib.sha256(text.encode()).hexdigest()
    try:
        return ranks.store.add(f"said/{key}", 1) == 1
    except RuntimeError:  # whoever kept it is gone: better twice than never
        return True


def _fail(ranks: Ranks) -> None:
    """Tell the others that this rank says why it ends."""
    with suppress(RuntimeError):
        ranks.store.set("failed", "")


def _failed(ranks: Ranks) -> bool:
    try:
        return ranks.store.check(["failed"])
    except RuntimeError:
        return False
