"""Texts put before a prompt, so that an edit does not hang on the prompt standing alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast.editors import _cost_messages
from lga_fast.forward import decoding
from lga_fast.models import EditableModel

# What a context starts with, how many tokens it gets in all, and how many there are of each:
# EasyEdit's lists for ROME.
SEEDS = ("The", "Therefore", "Because", "I", "You")
LENGTHS = (5, 10)
PER_SEED = 2
_LIKELIEST = 5  # tokens, of which one is drawn


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
    wanted = [(start, length) for length in lengths for start in SEEDS * per_seed]
    with torch.no_grad(), model.frozen():
        if model.streamed:
            rows = _in_step(model, generator, wanted)
        else:
            rows = [_sampled(model, generator, *one) for one in wanted]
    texts = (model.tokenizer.decode(ids, skip_special_tokens=True) for ids in rows)
    return ("", *(f"{text}. " for text in texts))


def _sampled(
    model: EditableModel, generator: torch.Generator, start: str, length: int
) -> list[int]:
    """So many tokens that begin with a word."""
    ids = _start_of(model, start)
    while len(ids) < length:
        at = torch.tensor([len(ids) - 1])
        row = torch.tensor([ids], device=model.device)
        logits, _ = model.logits_at(row, torch.tensor([0]), at, use_cache=False)
        ids.append(_drawn(logits[0], generator))
    return ids


def _in_step(
    model: EditableModel, generator: torch.Generator, wanted: Sequence[tuple[str, int]]
) -> list[list[int]]:
    """`_sampled` of all, each token of all of them with one reading of the blocks.

    A draw takes as many random numbers whatever it draws from, so that each one's state of the
    generator is known beforehand.
    """
    starts = [_start_of(model, start) for start, _ in wanted]
    lengths = [max(0, n - len(ids)) for ids, (_, n) in zip(starts, wanted, strict=True)]
    states: list[list[Tensor]] = []
    for length in lengths:
        states.append([])
        for _ in range(length):
            states[-1].append(generator.get_state())
            _drawn(torch.zeros(_LIKELIEST), generator)
    once = model.sweep_bytes() + model.head_read_bytes()
    _cost_messages.say_readings(model, f"sampling {len(wanted)} contexts", max(lengths), once, None)
    alike: dict[int, list[int]] = {}  # no start is padded
    for i, ids in enumerate(starts):
        alike.setdefault(len(ids), []).append(i)

    def choose(rows: Sequence[int], logits: Float[Tensor, "row vocab"]) -> Int[Tensor, " row"]:
        picks = [0] * len(rows)
        for k, i in enumerate(rows):
            if states[i]:
                picks[k] = _drawn(logits[k], generator.set_state(states[i].pop(0)))
        return torch.tensor(picks)

    groups = list(alike.values())
    steps = [
        decoding.steps_of(
            model,
            [starts[i] for i in rows],
            [lengths[i] for i in rows],
            [()] * len(rows),
            partial(choose, rows),
        )
        for rows in groups
    ]
    found = dict[int, list[int]]()
    for rows, added in zip(groups, decoding.decode(model, steps, max(lengths)), strict=True):
        found |= {i: starts[i] + new for i, new in zip(rows, added, strict=True)}
    return [found[i] for i in range(len(wanted))]


def _start_of(model: EditableModel, start: str) -> list[int]:
    ids = list(model.tokenizer(start)["input_ids"])
    while ids and ids[-1] in model.end_ids() and len(ids) > 1:
        ids.pop()  # an appended end-of-text token would end the text before it began
    return ids


def _drawn(logits: Float[Tensor, " vocab"], generator: torch.Generator) -> int:
    """One of the likeliest tokens."""
    best = logits.float().cpu().topk(_LIKELIEST)
    pick = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
    return int(best.indices[pick])


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
