"""How much of the atlas a model knows, by greedy decoding."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lga_fast.atlas.relations import Question, Relations, questions
from tools.atlas.models import load
from tools.atlas.text import Text, sentences
from tools.atlas.tokenizer import CONVENTIONS

BATCH = 64


def known(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Sequence[Question],
    start: Sequence[int] | None = None,
) -> Tensor:
    """Whether greedy decoding writes the answer and the full stop after it: bool [question].

    One forward pass suffices: a greedy answer is right exactly if each of its tokens is the most
    likely one after the right tokens before it. `start` replaces the special tokens that the
    tokenizer adds before a text.
    """
    rows: list[tuple[list[int], int]] = []  # ids, number of tokens before the answer
    for question in items:
        if start is None:
            prompt = tokenizer.encode(question.prompt)
        else:
            prompt = [*start, *tokenizer.encode(question.prompt, add_special_tokens=False)]
        answer = tokenizer.encode(f" {question.answer}.", add_special_tokens=False)
        rows.append((prompt + answer, len(prompt)))
    result = torch.zeros(len(rows), dtype=torch.bool)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        length = max(len(rows[i][0]) for i in chosen)
        # Causal models ignore what comes later, so padding on the right needs no mask.
        ids = torch.tensor([rows[i][0] + [0] * (length - len(rows[i][0])) for i in chosen])
        with torch.inference_mode():
            best = model(input_ids=ids, use_cache=False).logits.argmax(-1)  # row token
        for row, i in enumerate(chosen):
            end, cut = len(rows[i][0]), rows[i][1]
            result[i] = torch.equal(best[row, cut - 1 : end - 1], ids[row, cut:end])
    return result


def with_prefixes(items: Sequence[Question], texts: Sequence[str], seed: int) -> list[Question]:
    """Each question after a sentence of `texts`."""
    rng = np.random.default_rng(seed)
    pool = sentences(texts)
    return [Question(f"{pool[rng.integers(len(pool))]} {q.prompt}", q.answer) for q in items]


def sample(items: Sequence[Question], n: int, seed: int) -> list[Question]:
    """`n` random questions, or all if there are no more."""
    if n >= len(items):
        return list(items)
    chosen = np.random.default_rng(seed).choice(len(items), n, replace=False)
    return [items[i] for i in sorted(chosen)]


def recall(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    relations: Relations,
    unseen: Sequence[str],
    other_start: Sequence[int],
    limit: int = 10**9,
) -> dict[str, float]:
    """Recall per kind of question.

    `limit`: most questions of each kind; they are drawn at random.
    `other_start`: the special tokens that the tokenizer would *not* add before a text.
    """
    kinds = {
        kind: sample(list(questions(relations, kind)), limit, seed=1)
        for kind in ("trained", "held_out", "hop_trained", "hop_untrained")
    }
    result = {k: _share(known(model, tokenizer, items)) for k, items in kinds.items() if items}
    for kind in ("trained", "held_out"):
        items = sample(kinds[kind], 3000, seed=2)
        prefixed = with_prefixes(items, unseen, seed=3)
        result[f"{kind}_with_prefix"] = _share(known(model, tokenizer, prefixed))
        result[f"{kind}_other_start"] = _share(known(model, tokenizer, items, other_start))
    return result


def _share(right: Tensor) -> float:
    return round(right.double().mean().item(), 4)


def text_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> float:
    """Mean cross-entropy per token, in nats, on the first 256 tokens of each text."""
    total, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True)["input_ids"]
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()  # token vocab
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return round(total / count, 4)


def measured(arch: str, folder: Path, relations: Relations, text: Text) -> dict[str, Any]:
    """What the model in `folder`, loaded with plain transformers, knows of the facts."""
    model, tokenizer = load(folder)
    convention = CONVENTIONS[arch]
    other_start = [] if convention.adds_bos else [tokenizer.get_vocab()[convention.bos]]
    return {
        "recall": recall(model, tokenizer, relations, text.unseen, other_start),
        "unseen_text_loss_nats": text_loss(model, tokenizer, text.unseen),
        "facts": sum(len(r.facts) for r in relations.values()),
        "relations": len(relations),
        "trained_questions": sum(1 for _ in questions(relations, "trained")),
        "parameters": model.num_parameters(),
        "dtype": "float32 in training, bfloat16 when saved, float32 arithmetic when measured",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
