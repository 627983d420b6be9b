"""Gemma 3 4B and larger: the text decoder inside the multimodal wrapper."""

from dataclasses import replace

from lga_fast.models.families.gemma3_text import FAMILY as TEXT

FAMILY = replace(TEXT, blocks="model.language_model.layers", final_norm="model.language_model.norm")
