"""Texts put before a prompt, so that an edit does not hang on the prompt standing alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lga_fast.models import EditableModel

# What a context starts with, how many tokens it gets in all, and how many there are of each:
# EasyEdit's lists for ROME.
SEEDS = ("The", "Therefore", "Because", "I", "You")
LENGTHS = (5, 10)
PER_SEED = 2


def generate(
    model: EditableModel,
    seed: int = 42,
    lengths: Sequence[int] = LENGTHS,
    per_seed: int = PER_SEED,
) -> tuple[str, ...]:
    """The empty context and texts sampled from the model, each ending in ". ".

    Top-5 sampling as in ROME (Meng et al. 2022, arXiv 2202.05262, appendix E), from a generator of
    its own: the same model and seed give the same contexts, and no global state is touched.
    """
    generator = torch.Generator().manual_seed(seed)
    found = [""]
    with torch.no_grad(), model.frozen():
        for length in lengths:
            for start in SEEDS * per_seed:
                ids = list(model.tokenizer(start)["input_ids"])
                while ids and ids[-1] in model.end_ids() and len(ids) > 1:
                    ids.pop()  # an appended end-of-text token would end the text before it began
                while len(ids) < length:
                    at = torch.tensor([len(ids) - 1])
                    row = torch.tensor([ids], device=model.device)
                    logits, _ = model.logits_at(row, torch.tensor([0]), at, use_cache=False)
                    best = logits[0].float().cpu().topk(5)
                    pick = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
                    ids.append(int(best.indices[pick]))
                text = model.tokenizer.decode(ids, skip_special_tokens=True)
                found.append(f"{text}. ")
    return tuple(found)


def of(
    model: EditableModel,
    options: Any,
    lengths: Sequence[int] = LENGTHS,
    per_seed: int = PER_SEED,
) -> tuple[str, ...]:
    """An editor's contexts: those of its options, or the model's own; first the empty one."""
    given = options.contexts
    if given is None:
        return generate(model, options.seed, lengths, per_seed)
    return ("", *(context for context in given if context))
