"""The model's own answers: made in batches, in smaller ones where memory runs out, and kept."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from lga_fast import files, memory
from lga_fast.forward.tensor_store import DiskStore
from lga_fast.models import EditableModel
from lga_fast.streaming.streamed_model import StreamedModel

Tokens = Sequence[int]
Batches = list[list[int]]  # of prompts, by number
_FILE, _STEPS = "answers.json", "answers-"


class KeptAnswers:
    """What a pass that may be killed has found of its old answers.

    Batches whose tokens are made in step are kept when they are finished, and before that after
    every block of every token.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: dict[int, list[int]] = {}
        self.left: list[Batches] | None = None  # None: nothing has begun
        self._number = 0  # of the folder where the batches that come next keep what they find
        if self._file.exists():
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            self.found = {int(i): answer for i, answer in kept["found"].items()}
            self.left, self._number = kept["left"], kept["number"]

    @property
    def _file(self) -> Path:
        return self._folder / _FILE

    def steps(self) -> DiskStore:
        """Where the batches that come next keep what they find."""
        folder = self._folder / f"{_STEPS}{self._number}"
        folder.mkdir(exist_ok=True)
        return DiskStore(folder)

    def keep(self, found: Mapping[int, list[int]], left: list[Batches]) -> None:
        """Answers so far, and what is left to do, of which nothing has begun."""
        self.found, self.left, self._number = dict(found), left, self._number + 1
        plain = {"found": found, "left": left, "number": self._number}
        files.write_atomic(self._file, json.dumps(plain) + "\n")
        self._forget_steps()

    def forget(self) -> None:
        """Remove all of it, of killed runs too."""
        self._forget_steps()
        self._file.unlink(missing_ok=True)
        files.clear_abandoned(self._file)

    def _forget_steps(self) -> None:
        for folder in self._folder.glob(f"{_STEPS}*"):
            if folder.is_dir() and folder.name.removeprefix(_STEPS).isdecimal():
                shutil.rmtree(folder)


def generated(
    model: EditableModel,
    prompts: Mapping[int, Tokens],
    lengths: Mapping[int, int],
    batch_tokens: int,
    kept: KeptAnswers | None = None,
) -> dict[int, list[int]]:
    """Greedy answers to prompts, by number.

    Args:
        model: with streamed weights, many batches get a token at each reading of the blocks.
        prompts: token ids.
        lengths: how many tokens each answer may have.
        batch_tokens: tokens of one batch at most.
        kept: of a streamed model, what was found before it was killed, and where to keep more.

    Warns:
        UserWarning: memory did not suffice, so that it went on with smaller batches.
    """
    widths = {i: len(prompt) + lengths[i] for i, prompt in prompts.items()}
    found, left, warned = (dict(kept.found), kept.left, False) if kept else ({}, None, False)
    if left is None:
        left = memory.decoded(model, widths, batch_tokens)
    while left:
        if kept and left != kept.left:
            kept.keep(found, left)
        answers = _answers(model, prompts, lengths, left[0], kept)
        if answers is not None:
            found, left = found | answers, left[1:]
            continue
        sizes = [len(batch) * widths[batch[0]] for batch in left[0]]
        if not warned:
            warnings.warn(
                f"out of memory with {max(sizes)} tokens at a time while old answers are made; "
                "goes on with half as many. A smaller memory_budget avoids this.",
                stacklevel=6,
            )
        warned = True
        rest = {i: widths[i] for batches in left for batch in batches for i in batch}
        left = memory.decoded(model, rest, max(sizes) // 2, sum(sizes) // 2)
    return found


def _answers(
    model: EditableModel,
    prompts: Mapping[int, Tokens],
    lengths: Mapping[int, int],
    batches: Batches,
    kept: KeptAnswers | None,
) -> dict[int, list[int]] | None:
    """Answers of batches that run in step; None: memory did not suffice, but does for less."""
    asked = [([prompts[i] for i in batch], [lengths[i] for i in batch]) for batch in batches]
    try:
        if isinstance(model, StreamedModel) and kept:
            answered = model.greedy_each(asked, kept.steps())
        else:
            answered = model.greedy_each(asked)
    except Exception as error:
        if not memory.out_of_memory(error) or (len(batches) == len(batches[0]) == 1):
            raise
        return None  # the traceback is gone with this, and what it held
    by_batch = zip(batches, answered, strict=True)
    return {i: a for batch, some in by_batch for i, a in zip(batch, some, strict=True)}
