"""An evaluation made by several processes: a file of its own for every chunk, until all are there.

A part lies beside the evaluation's file (`results.part-32.jsonl` has the requests from the 32nd on)
and has its form. It is written once, whole. A later run, by however many processes, takes the parts
that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lga_fast import distributed, progress
from lga_fast.evaluation.results_file import CaseFile


@dataclass(frozen=True)
class ResultShards:
    """Where the parts of an evaluation lie; arguments are those of `CaseFile`."""

    path: Path | None
    configuration: Mapping[str, Any]
    surroundings: Mapping[str, Any]
    case_ids: Sequence[str]
    chunk: int

    def of(self, start: int) -> slice:
        """The requests of the part that begins with request `start`."""
        return slice(start, min(start + self.chunk, len(self.case_ids)))

    def finished(self) -> dict[int, CaseFile]:
        """Finished parts, by the place of their first request."""
        starts = range(0, len(self.case_ids), self.chunk)
        parts = {n: self.part(n) for n in starts if (path := self._file(n)) and path.exists()}
        return {start: part for start, part in parts.items() if not part.left}

    def part(self, start: int) -> CaseFile:
        """A part, finished or not."""
        cut = self.of(start)
        about = {**self.configuration, "part": [cut.start, cut.stop]}
        return CaseFile(self._file(start), about, self.surroundings, self.case_ids[cut])

    def remove(self) -> None:
        """Remove all files of parts."""
        for start in range(0, len(self.case_ids), self.chunk):
            if path := self._file(start):
                path.unlink(missing_ok=True)

    def _file(self, start: int) -> Path | None:
        return self.path and self.path.with_name(f"{self.path.stem}.part-{start}{self.path.suffix}")


def run(
    file: CaseFile,
    parts: ResultShards,
    evaluate: Callable[[slice, CaseFile], Iterator[int]],
    show_progress: bool | None,
) -> None:
    """Have every rank evaluate its share of the chunks that are missing; the first fills `file`.

    Args:
        file: of the whole; used on the first rank only.
        parts: of it.
        evaluate: puts the results of these requests into a part, and yields how many there are
            each time that there are some.
        show_progress: see `lga_fast.evaluate`.
    """
    ranks = distributed.current()
    ranks.assert_same(**parts.configuration)
    finished = parts.finished() if ranks.is_rank_zero else {}
    done = len(file.results) - len(file.results) % parts.chunk
    missing = [n for n in range(done, len(parts.case_ids), parts.chunk) if n not in finished]
    missing = ranks.gather(missing)[0]
    sizes = {start: parts.of(start).stop - start for start in missing}
    mine = [missing[i] for i in ranks.contiguous_shard(list(sizes.values()))]
    evaluated: dict[int, CaseFile] = {}
    with progress.bar("evaluating", sum(sizes[n] for n in mine), show_progress) as advance:
        for start in mine:
            evaluated[start] = parts.part(start)
            for count in evaluate(parts.of(start), evaluated[start]):
                advance(count)
    for of_rank in ranks.gather(evaluated):
        finished |= of_rank
    if ranks.is_rank_zero:
        for start, part in sorted(finished.items()):
            file.take(part, start)
