"""A few blocks of a streamed model in memory: enough to find out how all of them are built."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from lga_fast.errors import LgaFastError
from lga_fast.memory import format_bytes
from lga_fast.models.block_calls import last_of_each_kind, layer_types, one_of_each_kind
from lga_fast.models.family_guess import NotUnderstood, blocks_path
from lga_fast.models.module_patching import hooked, patched_forwards, tuple_length, wrap_output
from lga_fast.streaming.block_loader import assign
from lga_fast.streaming.checkpoint import Checkpoint
from lga_fast.streaming.meta_model import fill_buffers


@contextmanager
def skeleton(
    hf: Any, shards: Checkpoint, device: torch.device, memory_budget: int | None
) -> Iterator[None]:
    """A model on `meta` runs while inside, with the first and the last block of each kind alone.

    The other blocks hand on what they are given. So a family can be guessed and confirmed with the
    weights of few blocks, the head, and the tokens of a short row.

    Raises:
        LgaFastError: they take more than `memory_budget`, with gradients for those blocks.
    """
    try:
        path = blocks_path(hf)
    except NotUnderstood:  # as whoever guesses will say
        yield
        return
    blocks, decoder = hf.get_submodule(path), path.rpartition(".")[0]
    types = layer_types(hf)
    kept = {*one_of_each_kind(blocks, types), *last_of_each_kind(blocks, types)}
    paths = {module: name for name, module in hf.named_modules()}
    head = f"{paths[hf.get_output_embeddings()]}."
    rows = f"{paths[hf.get_input_embeddings()]}.weight"  # which are read when they are used
    running = tuple(f"{path}.{layer}." for layer in kept)
    empty = {
        name: tensor
        for name, tensor in hf.state_dict().items()
        if name.startswith((f"{decoder}.", head))
        and (name.startswith(running) or not name.startswith(f"{path}."))
        and name != rows
    }
    sources = {name: shards.source(name) for name in empty}
    _check_memory(shards, sources, running, memory_budget)
    fill_buffers(hf, decoder, device)
    read = shards.read(filter(None, sources.values()))
    weights = {name: read[source].to(device) for name, source in sources.items() if source}
    del read
    try:
        assign(hf, weights, strict=False)
        del weights
        with _skipped(blocks, kept), _without_weights_refused(hf, f"{path}."):
            yield
    finally:
        assign(hf, empty, strict=False)


def _check_memory(
    shards: Checkpoint,
    sources: Mapping[str, str | None],
    running: tuple[str, ...],
    memory_budget: int | None,
) -> None:
    """Refuse what would not fit, before it is read."""
    size = shards.loaded_bytes(filter(None, sources.values()))
    in_blocks = (source for name, source in sources.items() if source and name.startswith(running))
    needed = size + shards.loaded_bytes(in_blocks)
    if memory_budget is not None and needed > memory_budget:
        raise LgaFastError(
            f"no family file describes this model, and to find out how it is built takes "
            f"{format_bytes(needed)} ({len(running)} of its blocks with gradients, and its head); "
            f"memory_budget is {format_bytes(memory_budget)}. Give it more, or write a family file"
        )


@contextmanager
def _skipped(blocks: nn.ModuleList, kept: Collection[int]) -> Iterator[None]:
    """All blocks but these hand on their first input, in a tuple if those return one."""
    length = 0

    def seen(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal length
        length = tuple_length(output)

    def skip(*args: Any, **kwargs: Any) -> Any:
        return wrap_output([*args, *kwargs.values()][0], length)

    with ExitStack() as stack:
        for layer in kept:
            stack.enter_context(hooked(blocks[layer].register_forward_hook, seen))
        rest = [block for layer, block in enumerate(blocks) if layer not in kept]
        stack.enter_context(patched_forwards(dict.fromkeys(rest, skip)))
        yield


@contextmanager
def _without_weights_refused(hf: nn.Module, blocks: str) -> Iterator[None]:
    """Calling a module on `meta` that is in no block says which one it is."""

    def refuse(path: str, *call: object) -> None:
        raise NotUnderstood(
            f"{path} runs outside of the text decoder and the head, whose weights alone are "
            "streamed; load it with weights='resident'"
        )

    with ExitStack() as stack:
        for path, module in hf.named_modules():
            on_meta = any(p.is_meta for p in module.parameters(recurse=False))
            if on_meta and not path.startswith(blocks):
                on_call = partial(refuse, path)
                stack.enter_context(hooked(module.register_forward_pre_hook, on_call))
        yield
