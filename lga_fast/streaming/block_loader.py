"""Blocks of a model on `meta` that get their weights one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from lga_fast.streaming.checkpoint import Checkpoint


class BlockLoader:
    """Gives blocks their weights while they run: of this one and the next, or this and the head.

    Args:
        shards: where the weights come from.
        blocks: the model's blocks, on `meta`.
        path: where they are in the model.
        device: where they shall run.
        on_read: gets each tensor with the model's name of it, and may change it in place.
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
        self.held: set[int] = set()  # blocks that have their weights
        self._on_read = on_read
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1)
        self._coming: tuple[int, Future[tuple[dict[str, Tensor], Any]]] | None = None
        self._after: Future[Any] | None = None

    def walk(self, layers: Iterable[int], after: Callable[[], Any] | None = None) -> Iterator[int]:
        """Each of these layers while its weights are in memory; the next one is read meanwhile.

        `after` reads what is wanted next, while the last of them runs; see `taken`.
        """
        order, ended = list(layers), False
        self._after = None
        try:
            for layer, following in zip_longest(order, order[1:]):
                with self.loaded(layer, following):
                    if following is None and after is not None:
                        self._after = self._thread.submit(after)
                    yield layer
            ended = True
        finally:
            self.forget()
            if not ended:
                self._after = None

    def taken(self) -> Any:
        """What `after` of the last walk has read, once; None: nothing."""
        reading, self._after = self._after, None
        return reading.result() if reading else None

    @contextmanager
    def loaded(self, layer: int, following: int | None = None) -> Iterator[None]:
        """A block has its weights while inside; those of the `following` one are read meanwhile."""
        tensors, copied = self._take(layer)
        if following is not None:
            self._coming = following, self._thread.submit(self._read, following)
        block = self._blocks[layer]
        empty = dict(block.state_dict())
        if copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            for tensor in tensors.values():  # made on another stream, used on this one
                tensor.record_stream(current)
        try:
            for name, tensor in tensors.items():
                self._on_read(f"{self._path}.{layer}.{name}", tensor)
            assign(block, tensors)
            del tensors
            self.held.add(layer)
            yield
        finally:
            self.held.discard(layer)
            assign(block, empty)

    def forget(self) -> None:
        """Drop what was read beforehand, and not wanted after all."""
        if self._coming is not None:
            reading = self._coming[1]
            if not reading.cancel():
                wait([reading])
            self._coming = None

    def _take(self, layer: int) -> tuple[dict[str, Tensor], Any]:
        if self._coming is None or self._coming[0] != layer:
            self.forget()
            return self._thread.submit(self._read, layer).result()
        reading, self._coming = self._coming[1], None
        return reading.result()

    def _read(self, layer: int) -> tuple[dict[str, Tensor], Any]:
        """A block's tensors by their names in it, and when they will be on the device."""
        read = self._shards.read(self.names[layer])
        prefix = f"{self._path}.{layer}."
        tensors = {name.removeprefix(prefix): tensor for name, tensor in read.items()}
        if self._copies is None:
            return {name: tensor.to(self._device) for name, tensor in tensors.items()}, None
        with torch.cuda.stream(self._copies):  # beside the products of the block that runs
            for name, tensor in tensors.items():
                tensors[name] = tensor.pin_memory().to(self._device, non_blocking=True)
            return tensors, self._copies.record_event()


def assign(module: nn.Module, tensors: Mapping[str, Tensor], strict: bool = True) -> None:
    """Let a module's parameters and buffers be these tensors, themselves and not copies of them."""
    module.load_state_dict(dict(tensors), strict=strict, assign=True)
