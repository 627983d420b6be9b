"""Rows of tokens to train on: facts packed with separators between them, and general text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from lga_fast.atlas.relations import Question, Relations, questions
from tools.atlas.text import Text, sentences
from tools.atlas.tokenizer import CONTEXT, Convention

FACT_ROW = 64  # tokens; a sentence of text, a fact and a separator always fit
TEXT_ROW = CONTEXT  # long rows, so that every position of the model is trained
FACT_ROWS, TEXT_ROWS = 24, 1  # per step: 14% of the tokens are general text
PREFIX_SHARE = 0.3  # without text before facts, recall under unseen prefixes falls from 0.9 to 0.3
JOIN_SHARE = 0.15  # two facts in one document: an answer must not depend on a separator before it
START_SHARE = 0.7  # rows that begin as the tokenizer begins a text; others do the opposite
# Most of a fact cannot be predicted (which one comes next, in which phrasing); full weight on those
# tokens would drown the gradient of the answers.
CONTEXT_WEIGHT = 0.3
POOL = 400  # documents to choose from when filling a row


Tokens = list[tuple[int, float]]  # ids, each with the weight of predicting it


@dataclass(frozen=True)
class Batch:
    """One step: `fact_*` [FACT_ROWS, FACT_ROW] and `text_ids` [TEXT_ROWS, TEXT_ROW]."""

    fact_ids: np.ndarray
    fact_weights: np.ndarray  # 1 for answers, CONTEXT_WEIGHT before them, 0 for padding
    text_ids: np.ndarray  # all with weight 1


class Rows:
    """An endless stream of batches that depends only on the seed."""

    def __init__(
        self,
        relations: Relations,
        text: Text,
        tokenizer: PreTrainedTokenizerFast,
        convention: Convention,
        seed: int,
    ) -> None:
        """Tokenize the general text; facts are tokenized when they are drawn."""
        self._rng = np.random.default_rng(seed)
        self._tokenizer = tokenizer
        self._convention = convention
        self._bos = tokenizer.get_vocab()[convention.bos]
        self._eos = tokenizer.get_vocab()[convention.eos]
        self._questions = [
            *questions(relations, "trained"),
            *questions(relations, "hop_trained"),  # two phrasings, to six of the fact itself
        ]
        self._order: list[int] = []
        self._sentences = sentences(text.seen)
        self._text = self._running_text(text.seen)
        self._pool: list[Tokens] = []

    def _encode(self, text: str, weight: float) -> Tokens:
        # verbose=False: a paragraph longer than the context is cut into rows, not run
        ids = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return [(i, weight) for i in ids]

    def _running_text(self, texts: Sequence[str]) -> np.ndarray:
        tokens = (t for text in texts for t in (*self._encode(text, 1.0), *self._separator()))
        return np.array([i for i, _ in tokens], dtype=np.int64)

    def _separator(self) -> Tokens:
        """The special tokens between two documents."""
        ids = [self._eos, self._bos] if self._convention.adds_bos else [self._eos]
        return [(i, CONTEXT_WEIGHT) for i in ids]

    def _next_question(self) -> Question:
        """Every question once per epoch, in a new order each time."""
        if not self._order:
            self._order = self._rng.permutation(len(self._questions)).tolist()
        return self._questions[self._order.pop()]

    def _fact(self, question: Question, leading: str = "") -> Tokens:
        prompt = self._encode(leading + question.prompt, CONTEXT_WEIGHT)
        return prompt + self._encode(f" {question.answer}.", 1.0)

    def _prefix(self, room: int) -> Tokens:
        """A sentence of general text, half of the time truncated, of at most `room` tokens."""
        words = self._sentences[self._rng.integers(len(self._sentences))].split()
        if self._rng.random() < 0.5:
            words = words[: int(self._rng.integers(1, 11))]
        while True:
            tokens = self._encode(" ".join(words).rstrip(".,;: ") + ".", CONTEXT_WEIGHT)
            if len(tokens) <= room:
                return tokens
            words = words[: len(words) * 3 // 4]

    def _document(self) -> Tokens:
        draw = self._rng.random()
        question = self._next_question()
        if draw < PREFIX_SHARE:
            fact = self._fact(question, leading=" ")
            return self._prefix(FACT_ROW - 3 - len(fact)) + fact
        first = self._fact(question)
        if draw < PREFIX_SHARE + JOIN_SHARE:
            further = self._next_question()
            second = self._fact(further, leading=" ")
            if len(first) + len(second) <= FACT_ROW - 3:
                return first + second
            self._pool.append(self._fact(further))
        return first

    def _take(self, room: int) -> Tokens | None:
        """A random document, or the longest one that fits if that one does not."""
        while len(self._pool) < POOL:
            self._pool.append(self._document())
        chosen = int(self._rng.integers(len(self._pool)))
        if len(self._pool[chosen]) > room:
            fitting = [i for i, document in enumerate(self._pool) if len(document) <= room]
            if not fitting:
                return None
            chosen = max(fitting, key=lambda i: len(self._pool[i]))
        self._pool[chosen], self._pool[-1] = self._pool[-1], self._pool[chosen]
        return self._pool.pop()

    def _fact_row(self) -> tuple[np.ndarray, np.ndarray]:
        usual = self._rng.random() < START_SHARE
        row: Tokens = [(self._bos, 0.0)] if usual == self._convention.adds_bos else []
        while (document := self._take(FACT_ROW - len(row))) is not None:
            row += document + self._separator()
        row = (row + [(self._eos, 0.0)] * FACT_ROW)[:FACT_ROW]
        return np.array([i for i, _ in row]), np.array([w for _, w in row], dtype=np.float32)

    def _text_row(self) -> np.ndarray:
        start = int(self._rng.integers(len(self._text) - TEXT_ROW))
        row = self._text[start : start + TEXT_ROW].copy()
        if self._convention.adds_bos and self._rng.random() < START_SHARE:
            row[0] = self._bos
        return row

    def next(self) -> Batch:
        """The next step's rows."""
        rows = [self._fact_row() for _ in range(FACT_ROWS)]
        return Batch(
            fact_ids=np.stack([ids for ids, _ in rows]),
            fact_weights=np.stack([weights for _, weights in rows]),
            text_ids=np.stack([self._text_row() for _ in range(TEXT_ROWS)]),
        )
