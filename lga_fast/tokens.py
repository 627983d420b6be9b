"""Prompt and answer as token ids: where one ends and the other begins.

What a tokenizer does to a prompt depends on whether it chats (`lga_fast.chat`), and that is known
here only.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lga_fast.chat import ChatTokenizer
from lga_fast.errors import EditError

Offsets = list[tuple[int, int]]  # of each token, the characters that it holds
# How Unicode names the letters of scripts that put no spaces between words.
_UNSPACED = (
    *("CJK", "IDEOGRAPHIC", "BOPOMOFO", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "FULLWIDTH"),
    *("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"),
)


@dataclass(frozen=True)
class Row:
    """Token ids of a prompt and its answer; the answer begins at `start`."""

    ids: tuple[int, ...]
    start: int

    @property
    def target(self) -> tuple[int, ...]:
        return self.ids[self.start :]


def target_row(tokenizer: Any, prompt: str, target: str) -> Row:
    """Tokenise prompt and target as one text, and find where the target begins.

    They are tokenised together, as the model will meet them: with a space between them (see
    `writes_spaces`), or whatever a chat template puts there. The cut is after the prompt's own ids
    where these open the joint ids; else (a merge across the join, a trailing space) where the
    target's characters begin; without offsets the two are tokenised apart. No end-of-text token.
    """
    asked, _, special = _as_given(tokenizer, prompt)
    if isinstance(tokenizer, ChatTokenizer):
        text, first = tokenizer.answered(prompt, target)
    else:
        space = not (prompt[-1:].isspace() or target[:1].isspace()) and writes_spaces(prompt)
        text = prompt + " " * space + target
        first = len(text) - len(target.lstrip())  # offsets may or may not count the space
    joint, offsets = encode(tokenizer, text, special)
    alone, _ = encode(tokenizer, asked, special)
    if len(alone) < len(joint) and joint[: len(alone)] == alone:
        return Row(tuple(joint), len(alone))
    if offsets is not None:
        starts = [i for i, (_, end) in enumerate(offsets) if end > first]
        if starts and starts[0] > 0:
            return Row(tuple(joint), starts[0])
    apart = tokenizer(text[len(asked) :], add_special_tokens=False)["input_ids"]
    return Row((*alone, *apart), len(alone))


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Ids of a prompt as the model gets it: in a chat, as a message of the user."""
    text, _, special = _as_given(tokenizer, prompt)
    return encode(tokenizer, text, special)[0]


def locate(tokenizer: Any, prompt: str) -> tuple[list[int], Offsets]:
    """The ids of `encode_prompt`, and the characters of `prompt` that each of them holds.

    Raises:
        EditError: the tokenizer is a slow one, and decoding its ids gives another text.
    """
    text, start, special = _as_given(tokenizer, prompt)
    ids, offsets = encode(tokenizer, text, special)
    if offsets is None:
        offsets = _decoded_offsets(tokenizer, text, ids, skip_special=special)
    return ids, [(a - start, b - start) for a, b in offsets]


def encode(tokenizer: Any, text: str, special: bool = True) -> tuple[list[int], Offsets | None]:
    """Ids of a text that others may follow, and their characters if the tokenizer is fast.

    Args:
        tokenizer: of the model.
        text: as it is; of a prompt, see `encode_prompt`.
        special: whether the tokenizer's special tokens are added. One that the text begins with is
            not doubled.
    """
    fast = bool(getattr(tokenizer, "is_fast", False))
    out = tokenizer(
        text,
        add_special_tokens=special,
        return_offsets_mapping=fast,
        return_special_tokens_mask=True,
    )
    ids, mask = list(out["input_ids"]), out["special_tokens_mask"]
    end = len(ids)
    while special and end and mask[end - 1]:  # an appended end-of-text token would end the text
        end -= 1
    begin = getattr(tokenizer, "bos_token", None)
    twice = special and begin and text.startswith(begin) and ids[:2] == 2 * ids[:1]
    start = 1 if twice and ids[0] == tokenizer.bos_token_id else 0
    return ids[start:end], out["offset_mapping"][start:end] if fast else None


def token_at(tokenizer: Any, prompt: str, character: int, ids: Sequence[int]) -> int:
    """Index of the token that holds a character of `prompt`, whose tokens are `ids`.

    Raises:
        EditError: see `locate`; or the prompt's tokens are others up to there.
    """
    own, offsets = locate(tokenizer, prompt)
    tokens = [i for i, (a, b) in enumerate(offsets) if a <= character < b]
    index = tokens[-1] if tokens else -1  # the last one: a character may take several tokens
    if index >= 0 and own[: index + 1] == list(ids[: index + 1]):
        return index
    raise EditError(
        f"the subject's last token cannot be located in {prompt!r}: it merges with the answer that "
        "follows. Put a word between subject and answer."
    )


def writes_spaces(prompt: str, target: str = "") -> bool:
    """Whether the script puts a space between `prompt` and its answer.

    Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan put none between words; the last letter
    of the prompt decides. A target that begins with a space has one all the same.
    """
    last = next((c for c in reversed(prompt) if c.isalpha()), "a")
    return target[:1].isspace() or not unicodedata.name(last, "").startswith(_UNSPACED)


def _as_given(tokenizer: Any, prompt: str) -> tuple[str, int, bool]:
    """A prompt as the model gets it, where it begins there, and whether special tokens are added.

    A chat template writes those itself.
    """
    if isinstance(tokenizer, ChatTokenizer):
        return (*tokenizer.prompt(prompt), False)
    return prompt, 0, True


def _decoded_offsets(tokenizer: Any, text: str, ids: Sequence[int], skip_special: bool) -> Offsets:
    """What each token of a slow tokenizer adds to what the tokens before it decode to."""
    ends, decoded = [0], ""
    for count in range(1, len(ids) + 1):
        decoded = tokenizer.decode(
            ids[:count], skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
        )
        pairs = enumerate(zip(decoded, text, strict=False))  # up to an unfinished character
        ends.append(next((i for i, (a, b) in pairs if a != b), min(len(decoded), len(text))))
    if ends[-1] < len(text):
        raise EditError(
            f"the subject cannot be located in {text!r}: {type(tokenizer).__name__} is a slow "
            f"tokenizer, and its tokens decode to {decoded!r}. Use a fast one"
        )
    return list(itertools.pairwise(ends))
