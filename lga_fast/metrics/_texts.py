"""Similarity of two texts; each needs a package of `lga-fast[eval]`, imported where it is used."""

from __future__ import annotations

import warnings
from typing import Any

import torch


def rouge(written: str, answer: str) -> dict[str, float]:
    """F1 of ROUGE-1, -2 and -L (Lin 2004) of words without case and punctuation."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    scores = RougeScorer(list(kinds.values())).score(answer, written)
    return {name: float(scores[kind].fmeasure) for name, kind in kinds.items()}


def bleu(written: str, answer: str) -> float:
    """Sentence BLEU of sacrebleu's defaults, from 0 to 1."""
    from sacrebleu import sentence_bleu

    return sentence_bleu(written, [answer]).score / 100


def easyedit_rouge(written: str, answer: str) -> dict[str, float]:
    """Recall of ROUGE-1, -2 and -L as the `rouge` package counts it, over sets of n-grams."""
    from rouge import Rouge

    scores: dict[str, Any] = Rouge().get_scores(_with_space(written), answer)[0]  # type: ignore
    return {f"rouge_{n}": float(scores[f"rouge-{n}"]["r"]) for n in ("1", "2", "l")}


def easyedit_bleu(written: str, answer: str) -> float:
    """BLEU of nltk on the bare strings, so that its n-grams are of characters, from 0 to 1."""
    from nltk.translate.bleu_score import sentence_bleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk warns about every text without a common n-gram
        return float(sentence_bleu([answer], _with_space(written)))  # type: ignore[arg-type]


def _with_space(written: str) -> str:
    """A text without any space gets one: the `rouge` package refuses an empty text."""
    return written if " " in written else written + " "


def cosine(encoder: Any, written: str, answer: str) -> float:
    """Cosine of two texts' embeddings; `encoder` is a SentenceTransformer."""
    a, b = encoder.encode([answer, _with_space(written)], convert_to_tensor=True)
    return torch.nn.functional.cosine_similarity(a, b, dim=0).item()
