"""A streamed model's own forward: each block gets its weights when it is called.

Under gradient a block keeps what it was given and nothing else: its backward reads its weights a
second time and runs it again. So a graph over any number of blocks holds no weight of them.
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
from lga_fast.models.module_patching import unwrap_output
from lga_fast.streaming.block_loader import BlockLoader

# What a module's call looks at beside its forward.
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


class OnDemandWeights:
    """Lets the blocks and the head of a model on `meta` read their weights when they are called.

    A forward reads blocks in ascending order and its backward in descending order, each once and
    the next one beforehand; blocks that are skipped, or that no gradient reaches, are not read.

    Args:
        hf: the model.
        blocks: its blocks.
        reader: of the blocks; those that it holds already run as they are.
        head: gives the head its weights while inside.
        edits: what tells one set of edits in effect from another.
    """

    def __init__(
        self,
        hf: Any,
        blocks: nn.ModuleList,
        reader: BlockLoader,
        head: Callable[[], AbstractContextManager[None]],
        edits: Callable[[], Hashable],
    ) -> None:
        self._reader, self._head, self._edits = reader, head, edits
        self._layers = len(blocks)
        self._below: int | None = None  # the last block that this forward's backward will come to
        for layer, block in enumerate(blocks):
            block.forward = partial(self._run, layer, block, block.forward)
        output = hf.get_output_embeddings()
        output.forward = partial(self._run_head, output, output.forward)
        hf.register_forward_pre_hook(self._begin)
        hf.register_forward_hook(self._end, always_call=True)

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._below = None

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._reader.held:  # else somebody walks over the blocks
            self._reader.forget()

    def _run(
        self, layer: int, block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Forward of a block."""
        if layer in self._reader.held:
            return forward(*args, **kwargs)
        following = layer + 1 if layer + 1 < self._layers else None
        if not torch.is_grad_enabled():
            with self._reader.loaded(layer, following):
                return forward(*args, **kwargs)
        again, edits, below = snapshot_hooks(block), self._edits(), self._below
        backwards = False

        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal backwards
            if not backwards:
                backwards = True
                with self._reader.loaded(layer, following):
                    return forward(*args, **kwargs)
            if self._edits() != edits:
                raise LgaFastError(
                    f"block {layer}: expected a backward under the edits that its forward ran "
                    "under; their `with model.edited(...)` has ended or another has begun"
                )
            with self._reader.loaded(layer, below), again():
                return forward(*args, **kwargs)

        output = checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
        if unwrap_output(output).requires_grad:
            self._below = layer
        return output

    def _run_head(self, head: nn.Module, forward: Callable[..., Any], *args: Any) -> Any:
        """Forward of the head; a graph keeps its weights until their backward is done."""
        with self._head():
            return forward(*args)


def snapshot_hooks(block: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Hooks and forwards of all modules in a block as they are now, to have them again later."""
    kept = [(module, _behaviour(module)) for module in block.modules() if module is not block]

    @contextmanager
    def again() -> Iterator[None]:
        before = [(module, _behaviour(module, copies=False)) for module, _ in kept]
        try:
            _restore_hooks(kept)
            yield
        finally:
            _restore_hooks(before)

    return again


def _behaviour(module: nn.Module, copies: bool = True) -> dict[str, Any]:
    has = vars(module)
    found = {name: has[name].copy() if copies else has[name] for name in _HOOKS}
    return found | {"forward": has.get("forward")}


def _restore_hooks(modules: list[tuple[nn.Module, dict[str, Any]]]) -> None:
    for module, behaviour in modules:
        vars(module).update(behaviour)
        if behaviour["forward"] is None:
            del vars(module)["forward"]
