"""How near one text is to another; each needs a package of `lga-fast[eval]`, imported here only."""

from __future__ import annotations

import warnings
from typing import Any

import torch


def rouge(written: str, answer: str) -> dict[str, float]:
    """F1 of ROUGE-1, -2 and -L (Lin 2004) of words without case and punctuation."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    found = RougeScorer(list(kinds.values())).score(answer, written)
    return {name: float(found[kind].fmeasure) for name, kind in kinds.items()}


def bleu(written: str, answer: str) -> float:
    """Sentence BLEU of sacrebleu's defaults, from 0 to 1."""
    from sacrebleu import sentence_bleu

    return sentence_bleu(written, [answer]).score / 100


def easyedit_rouge(written: str, answer: str) -> dict[str, float]:
    """Recall of ROUGE-1, -2 and -L as the `rouge` package counts it, over sets of n-grams."""
    from rouge import Rouge

    found: dict[str, Any] = Rouge().get_scores(_spaced(written), answer)[0]  # type: ignore
    return {f"rouge_{n}": float(found[f"rouge-{n}"]["r"]) for n in ("1", "2", "l")}


def easyedit_bleu(written: str, answer: str) -> float:
    """BLEU of nltk on the bare strings, so that its n-grams are of characters, from 0 to 1."""
    from nltk.translate.bleu_score import sentence_bleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every text without a common n-gram
        return float(sentence_bleu([answer], _spaced(written)))  # type: ignore[arg-type]


def _spaced(written: str) -> str:
    """A text without any space gets one: the `rouge` package takes no empty text."""
    return written if " " in written else written + " "


def cosine(encoder: Any, written: str, answer: str) -> float:
    """Cosine of two texts' embeddings; `encoder` is a SentenceTransformer."""
    a, b = encoder.encode([answer, _spaced(written)], convert_to_tensor=True)
    return torch.nn.functional.cosine_similarity(a, b, dim=0).item()
