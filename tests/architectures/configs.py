"""Small configs of every causal architecture that transformers has, by the names of their sizes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

NAMES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

_WIDTHS = {32: "hidden_size d_model n_embd dim lru_width word_embed_proj_dim embed_dim dim_model"}
_WIDTHS |= {48: "intermediate_size intermediate_size_mlp ffn_dim n_inner d_ff ffn_hidden_size"}
_WIDTHS[48] += " dim_ff encoder_ffn_dim decoder_ffn_dim dense_intermediate_size d_inner"
_WIDTHS |= {24: "moe_intermediate_size expert_ffn_hidden_size"}
_WIDTHS |= {40: "shared_expert_intermediate_size shared_intermediate_size"}
_WIDTHS |= {400: "vocab_size vocab_size_per_layer_input"}
_WIDTHS |= {6: "num_hidden_layers n_layer num_layers n_layers decoder_layers num_decoder_layers"}
_WIDTHS[4] = "num_attention_heads n_head n_heads num_heads decoder_attention_heads num_experts"
_WIDTHS[4] += " encoder_attention_heads num_local_experts n_routed_experts moe_num_experts"
_WIDTHS[4] += " linear_num_value_heads mamba_n_heads qk_rope_head_dim linear_conv_kernel_dim"
_WIDTHS[4] += " mamba_num_heads laurel_rank rotary_dim encoder_layers num_encoder_layers"
_WIDTHS[2] = "num_key_value_heads num_kv_heads num_experts_per_tok moe_k top_k_experts moe_topk"
_WIDTHS[2] += " linear_num_key_heads mamba_expand expand"
_WIDTHS[8] = "head_dim global_head_dim v_head_dim qk_nope_head_dim kv_lora_rank mamba_d_state d_kv"
_WIDTHS[8] += " attention_head_size linear_key_head_dim linear_value_head_dim ssm_state_size"
_WIDTHS[8] += " state_size mamba_chunk_size chunk_size kv_channels"
_WIDTHS[16] = "q_lora_rank mamba_d_head mamba_head_dim hidden_size_per_layer_input"
_WIDTHS[128] = "max_position_embeddings n_positions max_seq_len seq_length n_ctx"
_WIDTHS[64] = "sliding_window"
_WIDTHS[1] = "n_shared_experts num_shared_experts n_group topk_group first_k_dense_replace"
_WIDTHS[1] += " moe_layer_start_index num_dense_layers mamba_n_groups n_groups bos_token_id"
_SIZES = {name: size for size, names in _WIDTHS.items() for name in names.split()}
_SIZES |= {"pad_token_id": 0, "eos_token_id": 399, "num_kv_shared_layers": 0}
_LATENT = {"num_key_value_heads": 4, "head_dim": 4}
_LATENT_KINDS = (
    "axk1 axk2 bailing_hybrid deepseek_v2 deepseek_v3 deepseek_v32 youtu glm4_moe_lite glm_moe_dsa"
    " kimi_linear minicpm3 sarvam_mla longcat_flash dots3_note_text"
)
_SPECIAL: dict[str, dict[str, Any]] = {name: _LATENT for name in _LATENT_KINDS.split()}
_SPECIAL |= {
    "lfm2": {"layer_types": ["conv", "full_attention"] * 3, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 3},
    "gpt_neo": {"attention_types": [[["global", "local"], 3]], "window_size": 64},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 3},
    "bamba": {"attn_layer_indices": [1, 3, 5]},
    "falcon_h1": {"mamba_d_ssm": 64},
    "kimi_linear": _LATENT | {"linear_num_heads": 2, "linear_head_dim": 8},
    "mamba2": {"head_dim": 16},
    "moshi": {"audio_vocab_size": 400},
    "zamba": {"attn_layer_period": 3, "attn_layer_offset": 2},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 3},
    "xlm": {"emb_dim": 32, "n_words": 400},
    "blt": {"encoder_hash_byte_group_vocab": 50},
    "gemma3": {"vision_config": {"hidden_size": 16, "num_attention_heads": 2}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2}},
    "qwen4_exp_text": {"ple_layer_ids": [], "ple_embed_dim": 16, "indexer_n_heads": 2}
    | {"indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 64}
    | {"indexer_compress_ratio": 4, "ngram_vocab_size_base": 400},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 16]},
    "zaya": {"num_experts_per_tok": 1},
    "gemma4_assistant": {"hidden_size_per_layer_input": 0},
}
# What a wrapper's part is, where its class does not say.
_SUB_CONFIGS = {
    ("got_ocr2", "text_config"): "qwen2",
    ("moss_transcribe_diarize", "text_config"): "qwen3",
    ("fuyu", "text_config"): "persimmon",
}


def small_config(name: str) -> Any:
    """A small config, by the names that configs give to sizes."""
    return _small(CONFIG_MAPPING[name])


def _small(cls: Any) -> Any:
    names = {field.name for field in fields(cls)}
    sizes = {name: size for name, size in _SIZES.items() if name in names}
    for name, spec in (getattr(cls, "sub_configs", None) or {}).items():
        kind = _SUB_CONFIGS.get((cls.model_type, name)) or getattr(spec, "model_type", None)
        # Not `get`, which sees only what has been imported.
        inner = CONFIG_MAPPING[kind] if kind in CONFIG_MAPPING else spec  # noqa: SIM401
        if is_dataclass(inner):
            sizes[name] = _small(inner).to_dict()
    return cls(**sizes | _SPECIAL.get(cls.model_type, {}))
