"""Several processes that work on one result: a thin layer over torch.distributed.

Work is shared only on request: in Python by `with ranks():`, on the command line by starting it
with torchrun. A process group that exists for something else, such as training, changes nothing.
Inside, every rank calls the same functions with the same arguments in the same order, and all of
them get the same result.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from lga_fast.errors import LostRank, RanksError

T = TypeVar("T")

# How much longer than another a rank may work. One that has ended is noticed at once all the same.
_PATIENCE = timedelta(days=7)


class Ranks:
    """The processes that work together, and which of them this one is; alone by default.

    What they exchange are results, in CPU memory, so that gloo carries it also where models are on
    CUDA devices: unlike NCCL it fails at once when a process at the other end is gone.
    """

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None) -> None:
        self.rank, self.size = rank, size
        self.is_rank_zero = rank == 0  # shows progress, prints and writes files
        self._group = group
        self.set_hosts([""] * size)

    def set_hosts(self, hosts: Sequence[str]) -> None:
        """Say whose machine each rank is on."""
        self.hosts = list(hosts)
        # How many of the ranks share this machine, and so its memory.
        self.local_world_size = self.hosts.count(self.hosts[self.rank])

    @property
    def device(self) -> str:
        """A CUDA device of this rank's own on its machine; the CPU where there are none.

        Raises:
            RanksError: the machine has CUDA devices, but fewer than ranks.
        """
        import torch

        count = torch.cuda.device_count()
        local = self.hosts[: self.rank].count(self.hosts[self.rank])
        if count and local >= count:
            raise RanksError(
                f"rank {self.rank} is number {local + 1} on its machine, which has {count} CUDA "
                f"devices: expected one for each. Start {count} processes on it, or use the CPU."
            )
        return f"cuda:{local}" if count else "cpu"

    def provenance(self) -> dict[str, int]:
        """For provenance: how many ranks made a result, where there were several."""
        return {"ranks": self.size} if self.size > 1 else {}

    def folder(self, path: Path) -> Path:
        """A folder of this rank's own in `path`; `path` itself where it is alone.

        Raises:
            RanksError: `path` holds what another number of ranks left there.
        """
        several = self.size > 1
        own = re.compile(rf"rank-\d+-of-{self.size if several else '[0-9]+'}")
        names = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
        others = [name for name in names if bool(own.fullmatch(name)) != several]
        if others:
            count = f"{self.size} processes" if several else "one process"
            raise RanksError(
                f"{path}: expected the state of {count}, or an empty folder, got "
                f"{others[0]!r} in it. Start as many as before, or give another folder."
            )
        return path / f"rank-{self.rank}-of-{self.size}" if several else path

    def balanced_shard(self, lengths: Sequence[float]) -> list[int]:
        """Places of this rank's items, in order: all ranks have about the same length in all.

        Items of like lengths go to one rank, where they make batches with little padding.
        """
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        return sorted(order[i] for i in self.contiguous_shard([lengths[i] for i in order]))

    def contiguous_shard(self, costs: Sequence[float]) -> list[int]:
        """Places of this rank's items, which follow one another; all ranks have about equal costs.

        That is for items whose neighbours have work in common.
        """
        total, before, mine = sum(costs), 0.0, list[int]()
        for item, cost in enumerate(costs):
            if int((before + cost / 2) / total * self.size) == self.rank:
                mine.append(item)
            before += cost
        return mine

    def gather(self, x: T) -> list[T]:
        """Every rank's `x`, by rank, on all of them; it waits until all are there.

        Raises:
            LostRank: one of them has ended.
        """
        if self.size == 1:
            return [x]
        import torch.distributed as dist

        everyones: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(everyones, x, group=self._group)
        except RuntimeError as error:
            raise LostRank(
                f"another of the {self.size} ranks ended before its share was done. If it printed "
                "no error it was killed, as happens where memory runs out."
            ) from error
        return everyones

    def assert_same(self, **facts: Any) -> None:
        """Refuse ranks that differ in what must be the same for all; raises `RanksError`."""
        for rank, theirs in enumerate(every := self.gather(facts)):
            for name, value in theirs.items():
                if value != every[0][name]:
                    raise RanksError(
                        f"expected the same {name} on all ranks, got {every[0][name]!r} on rank 0 "
                        f"and {value!r} on rank {rank}"
                    )


_current: ContextVar[Ranks] = ContextVar("ranks", default=Ranks())  # noqa: B039 - nothing changes it

current = _current.get  # the ranks that this process works with now: `current()`


def started_together() -> bool:
    """Whether torchrun started this process, and others with it."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Work together with all processes of torch.distributed inside the `with`.

    `score_layers`, `select_layer` and `evaluate` then share their requests, and the sweep of
    `brute_force` its edits. All else each rank does for itself. Where torch.distributed is not
    initialised yet that is done, from the environment that torchrun makes, and undone in the end.

    Raises:
        RanksError: the environment does not say which ranks there are.

    Example:
        >>> from lga_fast import distributed
        >>> with distributed.ranks() as ranks:
        ...     model = lga_fast.load("gpt2-xl", device=ranks.device)
        ...     ranking = lga_fast.select_layer(model, edits)  # the same on every rank
    """
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    own = not dist.is_initialized()
    if own:
        try:
            store, rank, size = next(rendezvous("env://"))
        except ValueError as error:
            raise RanksError(
                f"{error}. Start the program with torchrun, or initialise torch.distributed first."
            ) from None
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    group: Any = dist.new_group(backend="gloo", timeout=_PATIENCE)
    together = Ranks(dist.get_rank(), dist.get_world_size(), group)
    token = _current.set(together)
    try:
        together.set_hosts(together.gather(socket.gethostname()))
        yield together
    finally:
        _current.reset(token)
        dist.destroy_process_group(None if own else group)
        # It is closed with its last name: ranks that still wait are told, though this one lives on.
        together._group = group = None
