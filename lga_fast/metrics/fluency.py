"""Fluency: a text that repeats itself has few different n-grams."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lga_fast.errors import MetricError
from lga_fast.metrics import _packages
from lga_fast.metrics._cases import Values
from lga_fast.metrics._generation import Continuation, GeneratedText, Sampler
from lga_fast.options import SEEDS, Options, option
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Metric(Options):
    """Entropy of the n-grams in the prompt and what the model writes after it.

    `fluency_raw` is `H₂/3 + 2H₃/3` in bits, the entropies of the frequencies of pairs and triples
    of words (EasyEdit's `n_gram_entropy`; KnowEdit's tables show it times 100). `fluency` divides
    it by `log₂(max_total_tokens)` and clips it to [0, 1]: arXiv 2602.20207 does not say how it
    scales its values, and this division fits most of them.

    As in EasyEdit the prompt's tokens count, special tokens are left out, and generation goes on
    after an end-of-text token.
    """

    sampler: Sampler = option(
        "greedy", "greedy, or top5: sample from the five likeliest tokens, as EasyEdit does."
    )
    max_total_tokens: int = option(100, "Most tokens of the text, the prompt's included.", min=2)
    sentences: bool = option(
        True, "Split into sentences before words, as EasyEdit does; needs nltk's punkt_tab."
    )
    seed: int = option(42, "Seed of top5's samples.", **SEEDS)

    unit: ClassVar[str] = "entropy of n-grams / log2(tokens)"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("fluency",)

    def __post_init__(self) -> None:
        """Refuse what cannot be measured here."""
        super().__post_init__()
        _packages.require("fluency", {"nltk": "nltk"})
        if self.sentences:
            _require_punkt()

    def questions(self, request: EditRequest) -> list[Continuation]:
        """The prompt, to be continued."""
        tokens, sampler = self.max_total_tokens, self.sampler
        return [Continuation(request.prompt, tokens, True, sampler, self.seed)]

    def measure(
        self, request: EditRequest, before: Sequence[GeneratedText], after: Sequence[GeneratedText]
    ) -> Values:
        """`fluency` and `fluency_raw`."""
        from nltk.tokenize import word_tokenize

        text = unicodedata.normalize("NFKD", after[0].text).replace("\n\n", " ")
        raw = n_gram_entropy(word_tokenize(text, preserve_line=not self.sentences))
        share = raw / math.log2(self.max_total_tokens)
        return {"fluency": min(1.0, share), "fluency_raw": raw}


def n_gram_entropy(words: Sequence[str]) -> float:
    """`H₂/3 + 2H₃/3` in bits; 0 of a text too short to have n-grams.

    Example:
        >>> n_gram_entropy("the cat sat on the mat and the cat sat on the rug".split())
        2.9154168...
    """
    return _entropy(words, 2) / 3 + _entropy(words, 3) * 2 / 3


def _entropy(words: Sequence[str], n: int) -> float:
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    shares = [count / counts.total() for count in counts.values()]
    return sum(-share * math.log2(share) for share in shares)


def _require_punkt() -> None:
    from nltk.data import find

    try:
        find("tokenizers/punkt_tab/english/")
    except LookupError:
        raise MetricError(
            "fluency splits text into sentences with nltk's data 'punkt_tab', not found here: run "
            "python -m nltk.downloader punkt_tab. Or pass sentences=False, which needs no data but "
            "leaves a full stop inside the text attached to its word."
        ) from None
