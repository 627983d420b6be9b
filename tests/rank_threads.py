"""Ranks as threads of one process: what several processes do, without the time they take.

One works at a time, until it waits for others: attention kernels are registered for the process.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Any

from lga_fast import distributed
from lga_fast.distributed import Ranks
from lga_fast.errors import LostRank


class _Meeting:
    """What ranks have said in each of their meetings, and who is gone."""

    def __init__(self) -> None:
        self.said: dict[int, dict[int, bytes]] = defaultdict(dict)
        self.gone: set[int] = set()
        self.news = Condition()


class _Thread(Ranks):
    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        super().__init__(rank, size)
        self.meeting, self.turn = meeting, 0

    def gather(self, x: Any) -> list[Any]:
        meeting, said = self.meeting, self.meeting.said[self.turn]
        self.turn += 1
        said[self.rank] = pickle.dumps(x)
        meeting.news.notify_all()
        over = meeting.news.wait_for(
            lambda: len(said) == self.size or meeting.gone - said.keys(), timeout=60
        )
        if not over or len(said) < self.size:
            raise LostRank("another rank ended")
        return [pickle.loads(said[rank]) for rank in range(self.size)]


def on_ranks(own: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
    """What `work` gives on every rank for what is its own, or the error that it ends with."""
    meeting = _Meeting()
    results: list[Any] = [None] * len(own)

    def run(rank: int) -> None:
        distributed._current.set(_Thread(rank, len(own), meeting))
        with meeting.news:
            try:
                results[rank] = work(own[rank])
            except Exception as error:
                results[rank] = error
            meeting.gone.add(rank)
            meeting.news.notify_all()

    threads = [Thread(target=run, args=(rank,)) for rank in range(len(own))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
