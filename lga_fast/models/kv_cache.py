"""The forward argument and output that carry a KV cache, under the name transformers gives them.

transformers 5.24 renamed `past_key_values` to `cache`; the old name goes in 5.40.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE = "cache"
if CACHE not in {field.name for field in fields(CausalLMOutputWithPast)}:
    CACHE = "past_key_values"


def cache_of(output: Any) -> Any:
    """The KV cache that a forward returned; None: it ran without one."""
    return getattr(output, CACHE, None)
