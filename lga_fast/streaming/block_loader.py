"""Loads the blocks of a model on `meta` one after the other, the next one ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from lga_fast.streaming.checkpoint import Checkpoint
from lga_fast.undo import undone


class BlockLoader:
    """Gives blocks their weights while they run, and prefetches the next block or the head.

    Args:
        shards: where the weights come from.
        blocks: the model's blocks, on `meta`.
        path: their module path in the model.
        device: where they run.
        on_read: called with the model's name of each tensor read; may change it in place.
    """

    def __init__(
        self,
        shards: Checkpoint,
        blocks: nn.ModuleList,
        path: str,
        device: torch.device,
        on_read: Callable[[str, Tensor], None],
    ) -> None:
        self._shards, self._blocks, self._path, self._device = shards, blocks, path, device
        self.names = [shards.names(f"{path}.{layer}.") for layer in range(len(blocks))]
        self.loaded_layers: set[int] = set()  # blocks that have their weights
        self._on_read = on_read
        self._copy_stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[tuple[dict[str, Tensor], Any]]] | None = None
        self._head: Future[Any] | None = None

    def walk(
        self, layers: Iterable[int], read_head: Callable[[], Any] | None = None
    ) -> Iterator[int]:
        """Each of these layers while its weights are in memory; the next one is read meanwhile.

        `read_head` runs while the last of them does; see `take_head`.
        """
        order, completed = list(layers), False
        self._head = None
        try:
            for layer, following in zip_longest(order, order[1:]):
                with self.loaded(layer, following):
                    if following is None and read_head is not None:
                        self._head = self._thread.submit(read_head)
                    yield layer
            completed = True
        finally:
            self.cancel_prefetch()
            if not completed:
                self._head = None

    def take_head(self) -> Any:
        """What `read_head` of the last walk returned, once; None: nothing."""
        reading, self._head = self._head, None
        return reading.result() if reading else None

    @contextmanager
    def loaded(self, layer: int, following: int | None = None) -> Iterator[None]:
        """A block has its weights while inside; those of the `following` one are read meanwhile."""
        tensors, copied = self._take(layer)
        if following is not None:
            self._next = following, self._thread.submit(self._read, following)
        block = self._blocks[layer]
        empty = dict(block.state_dict())
        if copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            for tensor in tensors.values():  # allocated on another stream, used on this one
                tensor.record_stream(current)

        def undo() -> None:
            self.loaded_layers.discard(layer)
            assign(block, empty)

        with undone((block,), undo):
            for name, tensor in tensors.items():
                self._on_read(f"{self._path}.{layer}.{name}", tensor)
            assign(block, tensors)
            del tensors
            self.loaded_layers.add(layer)
            yield

    def cancel_prefetch(self) -> None:
        """Drop a block that was read ahead of time and is not needed after all."""
        if self._next is not None:
            reading = self._next[1]
            if not reading.cancel():
                wait([reading])
            self._next = None

    def _take(self, layer: int) -> tuple[dict[str, Tensor], Any]:
        if self._next is None or self._next[0] != layer:
            self.cancel_prefetch()
            return self._thread.submit(self._read, layer).result()
        reading, self._next = self._next[1], None
        return reading.result()

    def _read(self, layer: int) -> tuple[dict[str, Tensor], Any]:
        """A block's tensors by their names in it, and the event that they are on the device."""
        read = self._shards.read(self.names[layer])
        prefix = f"{self._path}.{layer}."
        tensors = {name.removeprefix(prefix): tensor for name, tensor in read.items()}
        if self._copy_stream is None:
            return {name: tensor.to(self._device) for name, tensor in tensors.items()}, None
        with torch.cuda.stream(self._copy_stream):  # concurrently with the block that runs
            for name, tensor in tensors.items():
                tensors[name] = tensor.pin_memory().to(self._device, non_blocking=True)
            return tensors, self._copy_stream.record_event()


def assign(module: nn.Module, tensors: Mapping[str, Tensor], strict: bool = True) -> None:
    """Set a module's parameters and buffers to these tensors, without copying them."""
    module.load_state_dict(dict(tensors), strict=strict, assign=True)
