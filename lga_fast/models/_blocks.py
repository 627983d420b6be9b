"""Blocks of a model on `meta` that get their weights one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from lga_fast.models._shards import Shards


class BlockReader:
    """Gives blocks their weights while they run: of two blocks at most, this one and the next.

    Args:
        shards: where the weights come from.
        blocks: the model's blocks, on `meta`.
        path: where they are in the model.
        device: where they shall run.
    """

    def __init__(
        self, shards: Shards, blocks: nn.ModuleList, path: str, device: torch.device
    ) -> None:
        self._shards, self._blocks, self._path, self._device = shards, blocks, path, device
        self.names = [shards.names(f"{path}.{layer}.") for layer in range(len(blocks))]
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def walk(self, layers: Iterable[int]) -> Iterator[int]:
        """Each of these layers while its weights are in memory; the next one is read meanwhile."""
        order = list(layers)
        with ThreadPoolExecutor(1) as reader:
            coming = [reader.submit(self._read, layer) for layer in order[:1]]
            for i, layer in enumerate(order):
                tensors, copied = coming.pop().result()
                coming += [reader.submit(self._read, layer) for layer in order[i + 1 : i + 2]]
                block = self._blocks[layer]
                empty = dict(block.state_dict())
                if copied is not None:
                    current = torch.cuda.current_stream(self._device)
                    current.wait_event(copied)
                    for tensor in tensors.values():  # made on another stream, used on this one
                        tensor.record_stream(current)
                try:
                    assign(block, tensors)
                    del tensors
                    yield layer
                finally:
                    assign(block, empty)

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
