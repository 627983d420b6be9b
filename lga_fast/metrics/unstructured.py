"""Unstructured editing: similarity of the model's free answer to the wanted text (UnKE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

from lga_fast.metrics import _packages, _probes, _texts
from lga_fast.metrics._cases import Values
from lga_fast.metrics._generation import Continuation, GeneratedText
from lga_fast.options import Options, option
from lga_fast.records import EditRequest

Standard = Literal["bleu", "rouge_1", "rouge_2", "rouge_l", "para_rouge_l", "bert_score"]
EasyEdit = Literal[
    "easyedit_bleu",
    "easyedit_rouge_1",
    "easyedit_rouge_2",
    "easyedit_rouge_l",
    "easyedit_para_rouge_l",
    "easyedit_bert_score",
]
_PACKAGES = {
    "bleu": {"sacrebleu": "sacrebleu"},
    "rouge_1": {"rouge_score": "rouge-score"},
    "bert_score": {"bert_score": "bert-score"},
    "easyedit_bleu": {"nltk": "nltk"},
    "easyedit_rouge_1": {"rouge": "rouge"},
    "easyedit_bert_score": {"sentence_transformers": "sentence-transformers"},
}


@dataclass(frozen=True)
class Metric(Options):
    """The free answer to the prompt, and to its paraphrases, against the new answer.

    Every score comes in two conventions, under two names:

    - `bleu` (sacrebleu), `rouge_1`, `rouge_2`, `rouge_l`, `para_rouge_l` (F1 of rouge-score) and
      `bert_score` (F1 of bert-score) are what these names commonly mean;
    - `easyedit_bleu` counts n-grams of characters, `easyedit_rouge_1` and so on are recalls over
      sets of n-grams, and `easyedit_bert_score` is the cosine of two sentence embeddings. EasyEdit
      and UnKE report these as BLEU, ROUGE and Bert Score, and so, it seems, does the paper.

    `para_rouge_l` is the mean over paraphrases. MMLU, the seventh column, is a metric of its own.
    """

    convention: Literal["easyedit", "standard"] = option(
        "easyedit", "Which of the two `overall` counts."
    )
    exclude: tuple[Literal[Standard, EasyEdit], ...] = option(
        (), "Scores to leave out; both bert_score load a large model."
    )
    max_total_tokens: int = option(512, "Most tokens of question and answer.", min=1)

    unit: ClassVar[str] = "similarity from 0 to 1"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what cannot be measured here."""
        super().__post_init__()
        needed = {k: v for n, p in _PACKAGES.items() if n not in self.exclude for k, v in p.items()}
        _packages.require("unstructured", needed)

    @property
    def headline(self) -> tuple[str, ...]:
        """What `overall` counts."""
        names = get_args(EasyEdit if self.convention == "easyedit" else Standard)
        return tuple(name for name in names if name not in self.exclude)

    def questions(self, request: EditRequest) -> list[Continuation]:
        """The prompt and its paraphrases, to be continued."""
        prompts = [request.prompt, *(p.prompt for p in _probes.of_kind(request, "rephrase"))]
        return [Continuation(prompt, self.max_total_tokens) for prompt in prompts]

    def measure(
        self, request: EditRequest, before: Sequence[GeneratedText], after: Sequence[GeneratedText]
    ) -> Values:
        """All scores that are not excluded."""
        answer = request.target_new
        written, *others = (continued.continuation for continued in after)
        rouge, easyedit = _texts.rouge, _texts.easyedit_rouge
        para = [rouge(other, answer)["rouge_l"] for other in others]
        easyedit_para = [easyedit(other, answer)["rouge_l"] for other in others]
        values: Values = {
            "bleu": _texts.bleu(written, answer),
            **rouge(written, answer),
            "para_rouge_l": _probes.mean(para),
            "easyedit_bleu": _texts.easyedit_bleu(written, answer),
            **{f"easyedit_{name}": v for name, v in easyedit(written, answer).items()},
            "easyedit_para_rouge_l": _probes.mean(easyedit_para),
        }
        if "bert_score" not in self.exclude:
            values["bert_score"] = self._bert.score([written], [answer])[2].item()
        if "easyedit_bert_score" not in self.exclude:
            values["easyedit_bert_score"] = _texts.cosine(self._sentences, written, answer)
        return {name: value for name, value in values.items() if name not in self.exclude}

    @cached_property
    def _bert(self) -> Any:
        from bert_score import BERTScorer  # type: ignore[import-not-found]

        return BERTScorer(lang="en")

    @cached_property
    def _sentences(self) -> Any:
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

        return SentenceTransformer("all-MiniLM-L6-v2")
