"""The folder of a streamed pass that may be killed at any moment and goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from lga_fast import files, provenance, run_identity
from lga_fast.datasets import LoadedEdits, jsonl
from lga_fast.errors import ScoringError
from lga_fast.forward.tensor_store import DiskStore
from lga_fast.models import EditableModel
from lga_fast.records import Dropped
from lga_fast.scoring.batch_layout import Batch
from lga_fast.scoring.old_answers import KeptAnswers, generated
from lga_fast.scoring.pairs import Pair
from lga_fast.tokens import Row

Pairs = tuple[list[Pair], list[Dropped]]


class RunCheckpoint:
    """What a run has found so far; all of it is written whole or not at all.

    Args:
        folder: where it lies; made if it is not there.
        model: what is scored.
        requests: the facts.
        options: those of the pass.

    Raises:
        ScoringError: the folder holds another run, or something else.
    """

    def __init__(
        self, folder: Path, model: EditableModel, requests: LoadedEdits, options: dict[str, Any]
    ) -> None:
        self._folder = folder
        self.waiting = DiskStore(folder)
        identity = run_identity.of(
            provenance.of(model),
            tokenizer=provenance.tokenizer_checksum(model.tokenizer),
            requests_sha256=jsonl.checksum(requests),
            end_ids=sorted(model.end_ids()),
            files=[[f.name, *_stamp(f)] for f in model.shards.files],
            **options,
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._clear_abandoned(model.layers)
        if not (folder / "run.json").exists() and (others := sorted(folder.iterdir())):
            raise ScoringError(
                f"{folder}: expected the state of a run, or an empty folder, got "
                f"{others[0].name!r} in it. Give another folder."
            )
        differ = run_identity.differences(self._kept("run", lambda: identity), identity)
        if differ:
            raise ScoringError(
                f"{folder}: holds the state of another run: {differ}. Give another folder, or "
                "remove this one."
            )

    def pairs(self, make: Callable[..., Pairs]) -> Pairs:
        """The pairs, made if this is the first time, with what makes old answers as `generate`."""
        answers = KeptAnswers(self._folder)

        def plain() -> dict[str, Any]:
            pairs, dropped = make(generate=partial(generated, kept=answers))
            return {
                "pairs": [asdict(pair) for pair in pairs],
                "dropped": [asdict(one) for one in dropped],
            }

        kept = self._kept("pairs", plain)
        answers.forget()
        pairs = [Pair(p["request"], _row(p["old"]), _row(p["new"])) for p in kept["pairs"]]
        return pairs, [Dropped(**one) for one in kept["dropped"]]

    def batches(self, make: Callable[[], list[Batch]]) -> list[Batch]:
        """The batches, made if this is the first time: free memory may be another one later."""
        kept = self._kept("batches", lambda: {"batches": make()})
        return [Batch(*batch) for batch in kept["batches"]]

    def start_over(self) -> None:
        """Forget all that depends on the batches."""
        for name in self.waiting.names():
            self.waiting.drop(name)
        (self._folder / "batches.json").unlink(missing_ok=True)

    def _kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        file = self._folder / f"{name}.json"
        if not file.exists():
            files.write_atomic(file, json.dumps(make(), indent=1) + "\n")
        return json.loads(file.read_text(encoding="utf-8"))

    def _clear_abandoned(self, layers: int) -> None:
        for name in ("run.json", "pairs.json", "batches.json"):
            files.clear_abandoned(self._folder / name)
        for layer in range(layers + 1):
            for kind in ("entering", "gradient"):
                files.clear_abandoned(self.waiting.file(f"{kind}-{layer}"))


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _row(plain: dict[str, Any] | None) -> Any:
    return plain and Row(tuple(plain["ids"]), plain["start"])
