"""Prompt and answer as token ids: where one ends and the other begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lga_fast.errors import EditError


@dataclass(frozen=True)
class Row:
    """Token ids of a prompt and its answer; the answer begins at `start`."""

    ids: tuple[int, ...]
    start: int

    @property
    def target(self) -> tuple[int, ...]:
        return self.ids[self.start :]


def target_row(tokenizer: Any, prompt: str, target: str) -> Row:
    """Tokenise `prompt + " " + target` and find where the target begins.

    They are tokenised together, as the model will meet them. The cut is after the prompt's own
    ids where these open the joint ids; else (a merge across the join, a trailing space) where the
    target's characters begin; without offsets the two are tokenised apart. No end-of-text token.
    """
    space = "" if prompt[-1:].isspace() or target[:1].isspace() else " "
    text = prompt + space + target
    joint, offsets = encode(tokenizer, text)
    alone, _ = encode(tokenizer, prompt)
    if len(alone) < len(joint) and joint[: len(alone)] == alone:
        return Row(tuple(joint), len(alone))
    if offsets is not None:
        first = len(text) - len(target.lstrip())  # offsets may or may not count the space
        starts = [i for i, (_, end) in enumerate(offsets) if end > first]
        if starts and starts[0] > 0:
            return Row(tuple(joint), starts[0])
    apart = tokenizer(space + target, add_special_tokens=False)["input_ids"]
    return Row((*alone, *apart), len(alone))


def encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]] | None]:
    """Ids of a text that others may follow, and their characters if the tokenizer is fast."""
    fast = bool(getattr(tokenizer, "is_fast", False))
    out = tokenizer(text, return_offsets_mapping=fast, return_special_tokens_mask=True)
    ids, special = list(out["input_ids"]), out["special_tokens_mask"]
    while ids and special[len(ids) - 1]:  # an appended end-of-text token would end the text here
        ids.pop()
    return ids, out["offset_mapping"][: len(ids)] if fast else None


def token_at(tokenizer: Any, text: str, character: int, ids: Sequence[int]) -> int:
    """Index of the token that holds a character of `text`, whose tokens are `ids`.

    Raises:
        EditError: the tokenizer gives no offsets, or tokenizes `text` differently up to there.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise EditError(
            "editing needs a fast tokenizer, which maps tokens to characters; "
            f"{type(tokenizer).__name__} does not"
        )
    out = tokenizer(text, return_offsets_mapping=True)
    tokens = [i for i, (a, b) in enumerate(out["offset_mapping"]) if a <= character < b]
    index = tokens[-1] if tokens else -1  # the last one: a character may take several tokens
    if index >= 0 and list(out["input_ids"][: index + 1]) == list(ids[: index + 1]):
        return index
    raise EditError(
        f"the subject's last token cannot be located in {text!r}: it merges with the answer that "
        "follows. Put a word between subject and answer."
    )
