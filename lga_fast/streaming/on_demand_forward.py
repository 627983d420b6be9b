"""A streamed model's own forward: each block gets its weights when it is called.

With gradients a block saves its inputs and nothing else: its backward reads the weights a second
time and recomputes the block. So a graph over any number of blocks holds none of their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lga_fast.errors import LgaFastError
from lga_fast.models.module_patching import HOOKS, unwrap_output
from lga_fast.streaming.block_loader import BlockLoader
from lga_fast.undo import undone


class OnDemandWeights:
    """Loads the weights of blocks and head of a model on `meta` when they are called.

    A forward reads blocks in ascending order and its backward in descending order, each once and
    prefetched; blocks that are skipped, or that no gradient reaches, are not read.

    Args:
        hf: the model.
        blocks: its blocks.
        loader: of the blocks; those loaded already run as they are.
        head: the head has its weights while inside.
        edits: identifies the set of edits in effect.
    """

    def __init__(
        self,
        hf: Any,
        blocks: nn.ModuleList,
        loader: BlockLoader,
        head: Callable[[], AbstractContextManager[None]],
        edits: Callable[[], Hashable],
    ) -> None:
        self._loader, self._head, self._edits = loader, head, edits
        self._layers = len(blocks)
        self._below: int | None = None  # the highest block so far that gradients will reach
        for layer, block in enumerate(blocks):
            block.forward = partial(self._run, layer, block, block.forward)
        output = hf.get_output_embeddings()
        output.forward = partial(self._run_head, output, output.forward)
        hf.register_forward_pre_hook(self._begin)
        hf.register_forward_hook(self._end, always_call=True)

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._below = None

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._loader.loaded_layers:  # else a walk over the blocks is under way
            self._loader.cancel_prefetch()

    def _run(
        self, layer: int, block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Forward of a block."""
        if layer in self._loader.loaded_layers:
            return forward(*args, **kwargs)
        following = layer + 1 if layer + 1 < self._layers else None
        if not torch.is_grad_enabled():
            with self._loader.loaded(layer, following):
                return forward(*args, **kwargs)
        hooks, edits, below = snapshot_hooks(block), self._edits(), self._below
        recomputing = False

        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal recomputing
            if not recomputing:
                recomputing = True
                with self._loader.loaded(layer, following):
                    return forward(*args, **kwargs)
            if self._edits() != edits:
                raise LgaFastError(
                    f"block {layer}: expected a backward under the edits that its forward ran "
                    "under; their `with model.edited(...)` has ended or another has begun"
                )
            with self._loader.loaded(layer, below), hooks():
                return forward(*args, **kwargs)

        output = checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
        if unwrap_output(output).requires_grad:
            self._below = layer
        return output

    def _run_head(self, head: nn.Module, forward: Callable[..., Any], *args: Any) -> Any:
        """Forward of the head; a graph keeps its weights until its backward is done."""
        with self._head():
            return forward(*args)


def snapshot_hooks(block: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """A context in which all modules in a block have the hooks and forwards that they have now."""
    snapshot = [(module, _hooks(module)) for module in block.modules() if module is not block]

    @contextmanager
    def restored() -> Iterator[None]:
        current = [(module, _hooks(module, copies=False)) for module, _ in snapshot]
        with undone([module for module, _ in snapshot], partial(_set_hooks, current)):
            _set_hooks(snapshot)
            yield

    return restored


def _hooks(module: nn.Module, copies: bool = True) -> dict[str, Any]:
    attributes = vars(module)
    hooks = {name: attributes[name].copy() if copies else attributes[name] for name in HOOKS}
    return hooks | {"forward": attributes.get("forward")}


def _set_hooks(modules: list[tuple[nn.Module, dict[str, Any]]]) -> None:
    for module, hooks in modules:
        vars(module).update(hooks)
        if hooks["forward"] is None:
            del vars(module)["forward"]
