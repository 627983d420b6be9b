"""The model's own answers: made in batches, in smaller ones where memory runs out, and kept."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from lga_fast import files, memory
from lga_fast.forward import decoding
from lga_fast.models import EditableModel

Tokens = Sequence[int]
Batches = list[list[int]]  # of prompts, by number
_FILE = "answers.json"


class KeptAnswers:
    """What a pass that may be killed has found of its old answers.

    Batches that are decoded together are kept when all of them are finished.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: dict[int, list[int]] = {}
        self.left: list[Batches] | None = None  # None: nothing has begun
        if self._file.exists():
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            self.found = {int(i): answer for i, answer in kept["found"].items()}
            self.left = kept["left"]

    @property
    def _file(self) -> Path:
        return self._folder / _FILE

    def keep(self, found: Mapping[int, list[int]], left: list[Batches]) -> None:
        """Answers so far, and what is left to do, of which nothing has begun."""
        self.found, self.left = dict(found), left
        files.write_atomic(self._file, json.dumps({"found": found, "left": left}) + "\n")

    def forget(self) -> None:
        """Remove all of it, of killed runs too."""
        self._file.unlink(missing_ok=True)
        files.clear_abandoned(self._file)


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
        left = decoding.decode_groups(model, widths, batch_tokens)
    while left:
        if kept and left != kept.left:
            kept.keep(found, left)
        answers = _answers(model, prompts, lengths, left[0])
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
        left = decoding.decode_groups(model, rest, max(sizes) // 2, sum(sizes) // 2)
    return found


def _answers(
    model: EditableModel,
    prompts: Mapping[int, Tokens],
    lengths: Mapping[int, int],
    batches: Batches,
) -> dict[int, list[int]] | None:
    """Answers of batches that run in step; None: memory did not suffice, but does for less."""
    asked = [([prompts[i] for i in batch], [lengths[i] for i in batch]) for batch in batches]
    try:
        answered = decoding.greedy_batches(model, asked)
    except Exception as error:
        if not memory.out_of_memory(error) or (len(batches) == len(batches[0]) == 1):
            raise
        return None  # the traceback is gone with this, and what it held
    by_batch = zip(batches, answered, strict=True)
    return {i: a for batch, some in by_batch for i, a in zip(batch, some, strict=True)}
