"""CACHE: the name that transformers gives a KV cache in a forward's arguments and output.

transformers 5.24 renamed `past_key_values` to `cache`; the old name goes in 5.40.
"""

from __future__ import annotations

from dataclasses import fields

from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE = "cache"
if CACHE not in {field.name for field in fields(CausalLMOutputWithPast)}:
    CACHE = "past_key_values"
