"""Sums over a text of what an edited matrix gets: `Σ k kᵀ / N` of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from lga_fast import memory, progress
from lga_fast.editors import _cost_messages
from lga_fast.errors import EditError
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.models import EditableModel, ForwardJob
from lga_fast.models.tensor_utils import padded

BLOCK = 1024  # keys held in float64 at once


class _Enough(Exception):
    """The highest layer asked for has been read; the rest of the forward is not needed."""


def measured(
    model: EditableModel, layers: list[int], rows: list[list[int]], batch_tokens: int, show: Any
) -> dict[int, Float64[Tensor, "d_in d_in"]]:
    """Σ k kᵀ / N of every layer, in one pass."""
    modules = {layer: model.matrix(layer, model.family.edited) for layer in layers}
    sums: dict[int, Tensor] = {}
    real: Tensor | None = None

    def see(layer: int, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if real is None:  # no batch: a block runs once to show the form of its output
            return
        keys = args[0].flatten(0, -2)[real.to(args[0].device)]
        for block in keys.split(BLOCK):
            block = block.to(home, torch.float64)
            sums.setdefault(layer, block.new_zeros(2 * block.shape[1:])).addmm_(block.T, block)
        if layer == layers[-1]:
            advance(len(keys))
            raise _Enough

    @contextmanager
    def batch_of(tokens: Tensor) -> Iterator[None]:
        nonlocal real
        real = tokens
        try:
            with suppress(_Enough):
                yield
        finally:
            real = None

    total = sum(map(len, rows))
    size = sum(8 * model.shape(layer, model.family.edited)[1] ** 2 for layer in layers)
    fits = model.device.type == "cuda" and 2 * size < model.memory.activation_budget
    home = model.device if fits else torch.device("cpu")
    with ExitStack() as stack:
        for layer, module in modules.items():
            hook = module.register_forward_pre_hook(partial(see, layer))
            stack.callback(hook.remove)
        for context in (model.frozen(), torch.no_grad(), fast_gelu(model.hf)):
            stack.enter_context(context)
        advance = stack.enter_context(progress.bar("reading keys", total, show))
        forwards = []
        for batch in memory.batches(dict(enumerate(map(len, rows))), batch_tokens):
            few = [rows[i] for i in batch]
            inputs = {"input_ids": padded(few).to(model.device), "use_cache": False}
            tokens = torch.cat([torch.arange(len(few[0])) < len(row) for row in few])
            forwards.append(ForwardJob(inputs, within=partial(batch_of, tokens)))
        _run(model, forwards, layers[-1] + 1, show)
    for layer in layers:
        if not torch.isfinite(sums[layer].diagonal()).all():  # sums of squares: none is left out
            raise EditError(f"layer {layer}: keys of {model.dtype} are not finite on this text")
    return {layer: (s + s.T).div_(2 * total).cpu() for layer, s in sums.items()}


def _run(model: EditableModel, forwards: Sequence[ForwardJob], layers: int, show: Any) -> None:
    """Run them so far, or as many of them together as may wait while a streamed block is read."""
    sizes = [forward.inputs["input_ids"].numel() for forward in forwards]
    groups = model.groups(sizes, model.memory.store_budget // model.memory.hidden_bytes)
    below = model.sweep_bytes() - model.sweep_bytes(layers)
    _cost_messages.say_readings(model, "second moments of keys", len(groups), below, show)
    for group in groups:
        model.run_batches([forwards[i] for i in group], layers)
