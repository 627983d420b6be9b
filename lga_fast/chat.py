"""Prompts as a chat model gets them: a user's message, rendered by the tokenizer's template."""

from __future__ import annotations

from typing import Any

from lga_fast.errors import LgaFastError

_SENTINEL = "SENTINEL"  # a message that no template changes


class ChatTokenizer:
    """A tokenizer whose prompts are messages of a user; everything else is the tokenizer's own.

    Args:
        tokenizer: with a chat template.

    Raises:
        LgaFastError: it has none, or one that does not show a user's message.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.plain = tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise LgaFastError(
                "chat: expected a tokenizer with a chat template, got "
                f"{type(tokenizer).__name__} without one. Load without chat, or set its "
                "chat_template"
            )
        asked = self._rendered(_SENTINEL)
        answered = self._rendered(_SENTINEL, _SENTINEL)
        if asked.count(_SENTINEL) != 1 or answered.count(_SENTINEL) != 2:
            raise LgaFastError("chat: the tokenizer's chat template does not show its messages")
        self._before = asked.partition(_SENTINEL)[0]
        self.turn_end_ids = self._turn_end(answered.rpartition(_SENTINEL)[2])

    def __getattr__(self, name: str) -> Any:
        if name == "plain":  # while it is unpickled or copied
            raise AttributeError(name)
        return getattr(self.plain, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the tokenizer itself makes of texts."""
        return self.plain(*args, **options)

    def prompt(self, message: str) -> tuple[str, int]:
        """A user's message up to where the answer begins, and where in it the message begins.

        A template may drop white space around a message.

        Raises:
            LgaFastError: the template changes the message.
        """
        text, start = self._rendered(message), len(self._before)
        if text.startswith(message, start):
            return text, start
        if text.startswith(message.strip(), start):
            return text, start - (len(message) - len(message.lstrip()))
        raise LgaFastError(
            f"chat: the template does not show the message {message!r} as it is: {text!r}"
        )

    def answered(self, message: str, answer: str) -> tuple[str, int]:
        """A message and its answer, without what ends it, and where the answer begins.

        The template decides what stands between the two, unless it shows messages of the past in
        another way than the one that is being answered.
        """
        asked, whole = self._rendered(message), self._rendered(message, answer)
        said = answer.strip()
        first = whole.find(said, len(asked))
        if whole.startswith(asked) and not whole[len(asked) : first].strip():
            return whole[: first + len(said)], first
        return asked + said, len(asked)

    def _rendered(self, message: str, answer: str | None = None) -> str:
        messages = [{"role": "user", "content": message}]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        try:
            return self.plain.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answer is None
            )
        except Exception as error:  # templates raise what they like, and jinja2 may be missing
            raise LgaFastError(f"chat: the tokenizer's chat template fails: {error}") from error

    def _turn_end(self, after: str) -> list[int]:
        """The special token that follows an answer, if one does."""
        ids = self.plain(after.lstrip(), add_special_tokens=False)["input_ids"]
        special = set(self.plain.all_special_ids) | set(self.plain.added_tokens_decoder)
        return [i for i in ids[:1] if i in special]
