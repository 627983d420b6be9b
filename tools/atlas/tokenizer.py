"""Byte-level BPE with 4096 entries, in the two conventions that real models follow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
CONTEXT = 256  # positions of the models


@dataclass(frozen=True)
class Convention:
    """Special tokens of an architecture, and whether a BOS is added before a text."""

    bos: str
    eos: str
    pad: str
    adds_bos: bool

    @property
    def special(self) -> list[str]:
        """The distinct special tokens in the order of their ids."""
        return list(dict.fromkeys((self.bos, self.eos, self.pad)))


CONVENTIONS = {
    # GPT-2 has one special token for all purposes and adds none before a text.
    "gpt2": Convention("<|endoftext|>", "<|endoftext|>", "<|endoftext|>", adds_bos=False),
    "llama": Convention("<s>", "</s>", "<pad>", adds_bos=True),
}


def train_tokenizer(texts: Iterable[str], arch: str) -> PreTrainedTokenizerFast:
    """Learn the merges from `texts` and wrap them in the convention of `arch`."""
    convention = CONVENTIONS[arch]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=convention.special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Offsets keep a word's leading space, as GPT-2's do: the spans of a subject are cut with them.
    post: processors.PostProcessor = processors.ByteLevel(trim_offsets=False)
    if convention.adds_bos:
        bos = convention.bos
        template = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
        post = processors.Sequence([post, template])
    tokenizer.post_processor = post
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=convention.bos,
        eos_token=convention.eos,
        pad_token=convention.pad,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
