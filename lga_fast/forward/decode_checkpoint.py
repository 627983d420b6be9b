"""Decoding in step that was killed goes on after the last block that was finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from lga_fast.forward.tensor_store import TensorStore


class JournaledCache(DynamicCache):
    """Keys and values, and those that were added last."""

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)
        self.added: dict[int, tuple[Tensor, Tensor]] = {}  # by layer

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self.added[layer_idx] = key_states, value_states
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


class DecodeCheckpoint:
    """What batches that are decoded in step have found, each reading block by block.

    In `waiting`: `entering-T-L` has what enters block L in reading T, `keys-T-L` the keys and
    values that the block added, `chosen-T` the tokens that the reading gave. Caches are filled
    again by the same additions in the same order, so that their bits are the same.

    Args:
        waiting: where it lies.
        caches: of the batches, by number; only of those that still run.
        layers: blocks of the model.
        device: where they run.
    """

    def __init__(
        self,
        waiting: TensorStore,
        caches: Mapping[int, JournaledCache],
        layers: int,
        device: torch.device,
    ) -> None:
        self._waiting, self._caches = waiting, caches
        self._layers, self._device = layers, device
        self._running: list[int] = []
        self.reading = 0

    def begin(self, running: Sequence[int]) -> dict[int, Int[Tensor, " _"]] | None:
        """A reading for these batches; its tokens, if it was finished before."""
        self._running = list(running)
        if f"chosen-{self.reading}" not in self._waiting.names():
            return None
        found = self._waiting.get(f"chosen-{self.reading}")
        self._add_keys(self._layers)
        self.reading += 1
        return {int(i): found[i] for i in found}

    @property
    def first(self) -> int:
        """The block that the reading begins with."""
        names = (name.split("-") for name in self._waiting.names())
        entered = [name[1:] for name in names if name[0] == "entering"]
        return max((int(at) for reading, at in entered if int(reading) == self.reading), default=0)

    def entering(
        self, recorded: list[Float[Tensor, "_ _ d_model"]]
    ) -> list[Float[Tensor, "_ _ d_model"]]:
        """What enters that block, once forwards have told what enters the first one."""
        first = self.first
        if not first:
            return recorded
        self._add_keys(first)
        found = self._waiting.get(f"entering-{self.reading}-{first}")
        return [found[str(i)] for i in self._running]

    def left(self, layer: int, hidden: Sequence[Float[Tensor, "_ _ d_model"]]) -> None:
        """Keep what left a block."""
        self._waiting.put(f"keys-{self.reading}-{layer}", self._added())
        if layer + 1 < self._layers:  # the head comes after the last block, and never alone
            named = zip(map(str, self._running), hidden, strict=True)
            self._waiting.put(f"entering-{self.reading}-{layer + 1}", named)
            self._waiting.drop(f"entering-{self.reading}-{layer}")

    def finish(self, chosen: Mapping[int, Int[Tensor, " _"]]) -> None:
        """Keep the tokens of a reading."""
        named = ((str(i), ids) for i, ids in chosen.items())
        self._waiting.put(f"chosen-{self.reading}", named)
        self._waiting.drop(f"entering-{self.reading}-{self._layers - 1}")
        self.reading += 1

    def _added(self) -> Iterator[tuple[str, Tensor]]:
        for i in self._running:
            for layer, (keys, values) in self._caches[i].added.items():
                yield f"{i}.{layer}.keys", keys
                yield f"{i}.{layer}.values", values
            self._caches[i].added.clear()

    def _add_keys(self, layers: int) -> None:
        """Let caches have what the blocks below `layers` added in this reading."""
        for layer in range(layers):
            found = self._waiting.get(f"keys-{self.reading}-{layer}")
            for name in [name for name in found if name.endswith("keys")]:
                number, at, _ = name.split(".")
                keys, values = found[name], found[f"{number}.{at}.values"]
                cache = self._caches[int(number)]
                cache.update(keys.to(self._device), values.to(self._device), int(at))
                cache.added.clear()
