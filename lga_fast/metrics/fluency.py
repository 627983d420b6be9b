"""Fluency: a text that repeats itself has few different n-grams."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from lga_fast.errors import MetricError
from lga_fast.metrics import _extras
from lga_fast.metrics._cases import Values
from lga_fast.metrics._generation import Continuation, Continued, Sampler
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Metric:
    """Entropy of the n-grams in the prompt and what the model writes after it.

    `fluency_raw` is `H₂/3 + 2H₃/3` in bits, the entropies of the frequencies of pairs and triples
    of words (EasyEdit's `n_gram_entropy`; KnowEdit's tables show it times 100). `fluency` is it
    divided by `log₂(max_total_tokens)` and clipped to [0, 1]: how arXiv 2602.20207 scales its
    values is not stated, and this division fits most of them.

    As in EasyEdit the prompt counts among the tokens, special tokens are left out, and the text
    goes on after an end-of-text token.
    """

    sampler: Sampler = field(
        default="greedy",
        metadata={"help": "greedy, or top5: draw from the five likeliest tokens, as EasyEdit."},
    )
    max_total_tokens: int = field(
        default=100, metadata={"help": "Tokens of the text at most, the prompt's own included."}
    )
    sentences: bool = field(
        default=True,
        metadata={"help": "Cut into sentences before words, as EasyEdit; needs nltk's punkt_tab."},
    )
    seed: int = field(default=42, metadata={"help": "Seed of top5's draws."})

    unit: ClassVar[str] = "entropy of n-grams / log2(tokens)"
    higher_is_better: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("fluency",)

    def __post_init__(self) -> None:
        """Refuse options that nothing can be measured with."""
        if self.max_total_tokens < 2:
            raise MetricError(
                f"fluency: max_total_tokens={self.max_total_tokens}: expected 2 or more"
            )
        _extras.need("fluency", {"nltk": "nltk"})
        if self.sentences:
            _need_punkt()

    def questions(self, request: EditRequest) -> list[Continuation]:
        """The prompt, to be continued."""
        tokens, sampler = self.max_total_tokens, self.sampler
        return [Continuation(request.prompt, tokens, True, sampler, self.seed)]

    def measure(
        self, request: EditRequest, before: Sequence[Continued], after: Sequence[Continued]
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


def _need_punkt() -> None:
    from nltk.data import find

    try:
        find("tokenizers/punkt_tab/english/")
    except LookupError:
        raise MetricError(
            "fluency cuts text into sentences with nltk's data 'punkt_tab', which is not here: "
            "python -m nltk.downloader punkt_tab. Or pass sentences=False, which needs no data: "
            "then a full stop inside the text stays a part of its word."
        ) from None
