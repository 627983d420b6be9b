"""Small random models of every family and small tokenizers, made on the spot: no network."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from lga_fast.models import EditableModel

TEXT = [
    "The mother tongue of Danielle Darrieux is French, and that of Ann Lee is English.",
    "The capital of France is Paris. The capital of Italy is Rome, as everyone knows.",
    "In which city does the tower stand? It stands in Berlin, Vienna or New York.",
    "Q: Who wrote the long book? A: Nobody remembers the unbelievable answer to that.",
]
_SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": None,
}
_GPT = {"vocab_size": 400, "n_embd": 32, "n_layer": 5, "n_head": 4, "n_positions": 128}
_SPECIAL: dict[str, dict[str, Any]] = {
    "gpt2": _GPT | {"n_inner": 48, "attn_pdrop": 0.3},
    "gptj": _GPT | {"n_inner": 48, "rotary_dim": 4},
    "gpt_neo": {
        "vocab_size": 400,
        "hidden_size": 32,
        "num_layers": 5,
        "num_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 128,
        "attention_types": [[["global", "local"], 2], [["global"], 1]],
        "window_size": 8,
    },
    "opt": {k: v for k, v in _SIZES.items() if k != "intermediate_size"}
    | {"ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 1},
    # Three of five layers slide over fewer tokens than the test rows have.
    "gemma2": _SIZES | {"sliding_window": 6, "final_logit_softcapping": 3.0},
    "gemma3_text": _SIZES | {"sliding_window": 6, "sliding_window_pattern": 2},
    "mistral": _SIZES | {"sliding_window": 6},
}


def config(family: str) -> Any:
    """A small config of a family."""
    if family == "gemma3":
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        vision |= {"num_attention_heads": 2, "image_size": 8, "patch_size": 4}
        text = _SPECIAL["gemma3_text"]
        return AutoConfig.for_model(
            "gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4
        )
    return AutoConfig.for_model(family, **_SPECIAL.get(family, _SIZES))


def model(
    family: str = "gpt2",
    dtype: torch.dtype = torch.float64,
    tokenizer: Any = None,
    attention: str = "eager",
    **changes: Any,
) -> EditableModel:
    """A random small model in training mode with gradients on, as a user might hand it over."""
    torch.manual_seed(0)
    settings = config(family)
    for name, value in changes.items():
        setattr(settings.get_text_config(), name, value)
    hf = AutoModelForCausalLM.from_config(settings, attn_implementation=attention)
    with torch.no_grad():
        for p in hf.parameters():  # larger than the usual initialisation: no product is near zero
            p.add_(torch.randn_like(p) * 0.05)
    return EditableModel(hf.to(dtype).train(), tokenizer or byte_level(), f"tiny-{family}")


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE in GPT-2's manner; adds no special tokens."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=380, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>")


@cache
def metaspace(add_bos: bool = True, add_eos: bool = False) -> PreTrainedTokenizerFast:
    """Leading-space pieces in Llama's manner, with a begin-of-text token."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=380, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    raw.train_from_iterator(TEXT, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{'<s> ' if add_bos else ''}$A{' </s>' if add_eos else ''}",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
