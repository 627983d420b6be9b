"""Small random models of every family, small tokenizers and facts for them: no network."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from lga_fast import registry
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest

TEXT = [
    "The mother tongue of Danielle Darrieux is French, and that of Ann Lee is English.",
    "The capital of France is Paris. The capital of Italy is Rome, as everyone knows.",
    "In which city does the tower stand? It stands in Berlin, Vienna or New York.",
    "Q: Who wrote the long book? A: Nobody remembers the unbelievable answer to that.",
]
REQUESTS = [
    EditRequest("0", "The mother tongue of Danielle Darrieux is", "English", target_old="French"),
    EditRequest("1", "The capital of France is", "New York"),
    EditRequest("2", "In which city does the tower stand? It stands in", "Rome", target_old="Ann"),
    EditRequest("3", "Paris", "unbelievable answer"),
    EditRequest("4", "Q: Who wrote the long book? A:", "Danielle Darrieux and Ann Lee"),
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
_FALCON = {k: v for k, v in _SIZES.items() if k != "head_dim"} | {"ffn_hidden_size": 48}
_MIXTURE = _SIZES | {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
}
_SHARED = _MIXTURE | {"shared_expert_intermediate_size": 40}
_ROUTED = _MIXTURE | {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2 + ["linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4}
_LATENT |= {"v_head_dim": 8, "num_key_value_heads": 4, "head_dim": 4}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 8}
_MAMBA |= {"layer_types": _LINEAR["layer_types"], "shared_intermediate_size": 48}
_WINDOWS = {"layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"]}
_WINDOWS |= {"sliding_window": 6}
_PER_LAYER = {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 400}
_GEMMA4 = _SIZES | _WINDOWS | {"global_head_dim": 16, "hidden_size_per_layer_input": 0}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
_VISION |= {"num_attention_heads": 2, "image_size": 8, "patch_size": 4}
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
    "olmo3": _SIZES | {"sliding_window": 6},
    "falcon": _FALCON,
    "falcon-new": _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
    "falcon-alibi": _FALCON | {"alibi": True, "parallel_attn": False, "multi_query": False},
    "cohere": _SIZES | {"logit_scale": 1.0},
    "stablelm": _SIZES | {"use_parallel_residual": True},
    "granite": _SIZES | {"residual_multiplier": 0.5, "embedding_multiplier": 2.0},
    "mixtral": _MIXTURE,
    "olmoe": _MIXTURE,
    "qwen3_moe": _MIXTURE | {"decoder_sparse_step": 2},  # every other layer has one ordinary MLP
    "qwen2_moe": _MIXTURE | {"shared_expert_intermediate_size": 40, "mlp_only_layers": [3]},
    "gpt_oss": _MIXTURE
    | {"sliding_window": 6, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "exaone4": _SIZES | _WINDOWS,
    "qwen3_5_text": _SIZES | _LINEAR,
    "qwen3_5_moe_text": _SHARED | _LINEAR,
    "qwen3_next": _SHARED | _LINEAR | {"mlp_only_layers": [3]},
    "deepseek_v3": _ROUTED | _LATENT | {"first_k_dense_replace": 1},
    "glm4_moe": _ROUTED | {"first_k_dense_replace": 1},
    "ernie4_5_moe": _MIXTURE
    | {"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1, "moe_layer_start_index": 1},
    "lfm2": _SIZES
    | {"layer_types": ["conv", *["full_attention"] * 3, "conv"], "block_auto_adjust_ff_dim": False},
    "minimax": _MIXTURE | {"layer_types": _LINEAR["layer_types"], "block_size": 8},
    "granitemoehybrid": _MIXTURE | _MAMBA | {"residual_multiplier": 0.5},
    "granitemoehybrid-dense": _SIZES | _MAMBA | {"num_local_experts": 0},
    "llama4_text": _MIXTURE | {"intermediate_size_mlp": 48, "interleave_moe_layer_step": 2},
    "gemma4_text": _GEMMA4 | _PER_LAYER,
    "gemma4_text-plain": _GEMMA4,
    "gemma4_text-shared": _GEMMA4 | _PER_LAYER | {"num_kv_shared_layers": 2},
    "gemma4_text-mixture": _GEMMA4
    | {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 48},
    "gemma3n_text": _SIZES | _WINDOWS | _PER_LAYER | {"num_kv_shared_layers": 2, "laurel_rank": 4},
}
VARIANTS = [name for name in _SPECIAL if "-" in name]  # other forms that a family comes in
ENTANGLED = ["gemma3n_text", "gemma4_text-shared"]  # blocks read more of earlier ones
MIXTURES = [name for name, sizes in _SPECIAL.items() if "num_experts" in sizes]


def names() -> list[str]:
    """Every family and every variant of one."""
    return registry.names("lga_fast.models.families") + VARIANTS


def dense() -> list[str]:
    """Every family that is no mixture of experts: what editors can edit."""
    return [name for name in names() if name not in MIXTURES and name not in VARIANTS]


def one_stream() -> list[str]:
    """`dense`, of families whose blocks take and return hidden states alone, so can be streamed."""
    return [name for name in dense() if name not in ENTANGLED]


def config(family: str) -> Any:
    """A small config of a family, or of a variant of one."""
    if family == "gemma3":
        text = _SPECIAL["gemma3_text"]
        return AutoConfig.for_model(
            "gemma3", text_config=text, vision_config=_VISION, mm_tokens_per_image=4
        )
    return AutoConfig.for_model(family.partition("-")[0], **_SPECIAL.get(family, _SIZES))


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
    hf = AutoModelForCausalLM.from_config(
        settings,
        attn_implementation=attention,
        experts_implementation="eager",  # the default one has no float64
    )
    with torch.no_grad():
        for p in hf.parameters():  # larger than the usual initialisation: no product is near zero
            p.add_(torch.randn_like(p) * 0.05)
    return EditableModel(hf.to(dtype).train(), tokenizer or byte_level(), f"tiny-{family}")


def gradient(model: EditableModel, layer: int, name: str) -> torch.Tensor:
    """What autograd left of a scored parameter: [*expert d_out *d_in], zeros where there is none.

    What the parameters of fused experts are called and how they are laid out is transformers'
    business; here it is said a second time, so that a test can tell when it changes.
    """
    role, part = name.split(".")
    experts = dict(model.part(layer, "block").named_modules()).get(model.family.experts or "none")
    if (layer, role) in model.matrices():
        found = getattr(model.matrix(layer, role), part).grad
        return found.T if model.family.orientation == "in_out" and part == "weight" else found
    if experts is None or role.startswith("shared"):
        return torch.zeros(1, dtype=model.dtype)
    fused = "down_proj" if role == "down" else "gate_up_proj"
    found = getattr(experts, fused if part == "weight" else f"{fused}_bias").grad
    interleaved = type(experts).__name__ == "GptOssExperts"
    transposed = interleaved or type(experts).__name__ == "Llama4TextExperts"  # d_in × d_out
    found = found.mT if transposed and part == "weight" else found
    if role == "down":
        return found
    first = role == "gate"
    if interleaved:
        return found[:, not first :: 2]
    half = found.shape[1] // 2
    return found[:, :half] if first else found[:, half:]


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
