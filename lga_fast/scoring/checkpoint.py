"""The folder of a streamed pass that may be killed at any moment and goes on where it was."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lga_fast import distributed, files, provenance, run_identity
from lga_fast.datasets import LoadedEdits, jsonl
from lga_fast.errors import ScoringError, warn
from lga_fast.forward.tensor_store import DiskStore
from lga_fast.models import EditableModel
from lga_fast.parsing import parse_json
from lga_fast.records import Dropped
from lga_fast.scoring.batch_layout import Batch
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import Groups, Pair, generated
from lga_fast.tokens import Row

Pairs = tuple[list[Pair], list[Dropped]]


class KeptAnswers:
    """Old answers so far; batches that are decoded together are kept once all are finished.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "answers.json"
        self.answers: dict[int, list[int]] = {}
        self.left: Groups | None = None  # None: nothing has begun
        if self._file.exists():
            state = _read(self._file)
            self.answers = {int(i): answer for i, answer in state["found"].items()}
            self.left = state["left"]

    def generate(
        self,
        model: EditableModel,
        prompts: Mapping[int, Sequence[int]],
        lengths: Mapping[int, int],
        batch_tokens: int,
    ) -> dict[int, list[int]]:
        """`pairs.generated`, going on from what is here."""
        begun = (self.answers, self.left) if self.left is not None else None
        return generated(model, prompts, lengths, batch_tokens, begun, self._keep)

    def forget(self) -> None:
        """Remove all of it, of killed runs too."""
        self._file.unlink(missing_ok=True)
        files.clear_abandoned(self._file)

    def _keep(self, answers: Mapping[int, list[int]], left: Groups) -> None:
        """Answers so far, and what is left to do, of which nothing has begun."""
        if left != self.left:
            self.answers, self.left = dict(answers), left
            _write(self._file, {"found": answers, "left": left})


class RunCheckpoint:
    """What a run has finished so far; all of it is written whole or not at all.

    Args:
        folder: where it lies; created if missing.
        model: what is scored.
        requests: the facts.
        options: those of the pass.

    Raises:
        ScoringError: the folder holds another run, or something else.
    """

    def __init__(
        self, folder: Path, model: EditableModel, requests: LoadedEdits, options: ScoringOptions
    ) -> None:
        self.folder = folder
        self.store = DiskStore(folder)
        identity = run_identity.of(
            provenance.of(model),
            tokenizer=provenance.tokenizer_checksum(model.tokenizer),
            requests_sha256=jsonl.checksum(requests),
            end_ids=sorted(model.end_ids()),
            files=[[f.name, *_stamp(f)] for f in model.shards.files],
            **asdict(options),
        )
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._clear_abandoned(model.layers)
        if not (folder / "run.json").exists() and (others := sorted(folder.iterdir())):
            raise ScoringError(
                f"{folder}: expected the state of a run, or an empty folder, got "
                f"{others[0].name!r} in it. Give another folder."
            )
        differ = run_identity.differences(self._stored("run", lambda: identity), identity)
        if differ:
            raise ScoringError(
                f"{folder}: holds the state of another run: {differ}. Give another folder, or "
                "remove this one."
            )

    def pairs(self, make: Callable[..., Pairs]) -> Pairs:
        """The pairs of the run's beginning; `make` takes what makes old answers as `generate`."""
        answers = KeptAnswers(self.folder)

        def plain() -> dict[str, Any]:
            pairs, dropped = make(generate=answers.generate)
            return {
                "pairs": [asdict(pair) for pair in pairs],
                "dropped": [asdict(one) for one in dropped],
            }

        stored = self._stored("pairs", plain)
        answers.forget()
        pairs = [
            Pair(
                p["request"],
                _row(p["old"]),
                _row(p["new"]),
                p["subject"],
                tuple((slot, _row(row)) for slot, row in p["probes"]),
            )
            for p in stored["pairs"]
        ]
        return pairs, [Dropped(**one) for one in stored["dropped"]]

    def batches(self, planned: list[Batch]) -> list[Batch]:
        """The batches of the run's beginning: another amount of memory may be free now."""
        stored = self._stored("batches", lambda: {"batches": planned})
        return [Batch(*batch) for batch in stored["batches"]]

    def start_over(self) -> None:
        """Forget all that depends on the batches."""
        for name in self.store.names():
            self.store.drop(name)
        (self.folder / "batches.json").unlink(missing_ok=True)

    def _stored(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        file = self.folder / f"{name}.json"
        if not file.exists():
            _write(file, make())
        return _read(file)

    def _clear_abandoned(self, layers: int) -> None:
        for name in ("run.json", "pairs.json", "batches.json"):
            files.clear_abandoned(self.folder / name)
        for layer in range(layers + 1):
            for kind in ("entering", "gradient"):
                files.clear_abandoned(self.store.file(f"{kind}-{layer}"))


def _write(file: Path, state: Mapping[str, Any]) -> None:
    text = json.dumps(state, indent=1)
    files.write_atomic(file, f"{text}\n{zlib.crc32(text.encode()):08x}\n")


def _read(file: Path) -> dict[str, Any]:
    """What `_write` wrote; whatever has changed since, a run would go on with in silence."""
    try:
        text, _, checksum = file.read_text(encoding="utf-8").rstrip("\n").rpartition("\n")
        if checksum == f"{zlib.crc32(text.encode()):08x}":
            return parse_json(text)
        problem = "another checksum than that of its text"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise ScoringError(
        f"{file}: expected the state of a run, got: {problem}. Remove the folder to start again."
    )


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _row(plain: dict[str, Any] | None) -> Any:
    return plain and Row(tuple(plain["ids"]), plain["start"])


def opened(
    resume: str | Path, model: EditableModel, requests: LoadedEdits, options: ScoringOptions
) -> RunCheckpoint | None:
    """The checkpoint in this process's part of a folder; None, with a warning: none serves.

    Raises:
        ScoringError: the weights are in memory, by the user's choice; or as of `RunCheckpoint`.
    """
    if not model.streamed:
        why = f"resume={str(resume)!r}: the weights are in memory, and only a pass with streamed "
        if model.placement.startswith("weights: resident"):  # `load` chose so
            warn(f"{why}ones keeps what it finds. Nothing is kept.")
            return None
        raise ScoringError(
            f"{why}ones has states between blocks. Drop resume=, or load the model with "
            "weights='streamed'."
        )
    return RunCheckpoint(distributed.current().folder(Path(resume)), model, requests, options)
