"""Texts put before a prompt, so that an edit holds in more contexts than the bare prompt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lga_fast.editors import _cost_messages
from lga_fast.editors._layer_editor import SEED_WORDS, LayerEditor
from lga_fast.forward import decoding
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import grad_mode
from lga_fast.tokens import encode

_TOP_K = 5  # tokens, of which one is drawn


def generate(
    model: EditableModel,
    seed: int = 42,
    lengths: Sequence[int] = LayerEditor.context_lengths,
    per_seed: int = LayerEditor.contexts_per_seed,
) -> tuple[str, ...]:
    """The empty context and texts sampled from the model, each ending in ". ".

    Top-5 sampling as in ROME (Meng et al. 2022, arXiv 2202.05262, appendix E), with its own
    generator: the same model and seed give the same contexts, and no global state is touched.
    """
    wanted = [(start, length) for length in lengths for start in SEED_WORDS * per_seed]
    with grad_mode(False), model.frozen():
        rows = _sample(model, torch.Generator().manual_seed(seed), wanted)
    texts = (model.tokenizer.decode(ids, skip_special_tokens=True) for ids in rows)
    # `{}` would be where the prompt is put.
    return ("", *(f"{text}. ".replace("{}", "{ }") for text in texts))


def _sample(
    model: EditableModel, generator: torch.Generator, wanted: Sequence[tuple[str, int]]
) -> list[list[int]]:
    """Ids of texts with these starts and numbers of tokens, a token of all of them at a time.

    Each is what it would be if they were sampled one after another: a draw consumes as many random
    numbers whatever it draws from, so the generator's state at each draw is known beforehand.
    """
    starts = [encode(model.tokenizer, start)[0] for start, _ in wanted]
    lengths = [max(0, n - len(ids)) for ids, (_, n) in zip(starts, wanted, strict=True)]
    states: list[list[Tensor]] = []
    for length in lengths:
        states.append([])
        for _ in range(length):
            states[-1].append(generator.get_state())
            _draw(model, torch.zeros(_TOP_K), generator)
    if model.streamed:
        once = model.sweep_bytes() + model.head_read_bytes()
        _cost_messages.log_reads(f"sampling {len(wanted)} contexts", max(lengths), once, None)
    by_length: dict[int, list[int]] = {}  # so that no start is padded
    for i, ids in enumerate(starts):
        by_length.setdefault(len(ids), []).append(i)

    def choose(rows: Sequence[int], logits: Float[Tensor, "row vocab"]) -> Int[Tensor, " row"]:
        picks = [0] * len(rows)
        for k, i in enumerate(rows):
            if states[i]:
                picks[k] = _draw(model, logits[k], generator.set_state(states[i].pop(0)))
        return torch.tensor(picks)

    groups = list(by_length.values())
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
    sampled = dict[int, list[int]]()
    for rows, added in zip(groups, decoding.decode(model, steps, max(lengths)), strict=True):
        sampled |= {i: starts[i] + new for i, new in zip(rows, added, strict=True)}
    return [sampled[i] for i in range(len(wanted))]


def _draw(model: EditableModel, logits: Float[Tensor, " vocab"], generator: torch.Generator) -> int:
    """One of the likeliest tokens, by their probabilities."""
    best = logits.float().cpu().topk(_TOP_K)  # of which NaN is the largest
    model.check_logits(best.values[:1])
    pick = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
    return int(best.indices[pick])


def of(model: EditableModel, editor: LayerEditor) -> tuple[str, ...]:
    """An editor's contexts, the empty one first: its option, or sampled from the model."""
    if editor.contexts is None:
        return generate(model, editor.seed, editor.context_lengths, editor.contexts_per_seed)
    return ("", *editor.given_contexts)
