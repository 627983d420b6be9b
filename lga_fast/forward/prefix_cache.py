"""Keys and values of a forward, kept for later ones that go on from its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from lga_fast.models.kv_cache import CACHE
from lga_fast.models.tensor_utils import additive_mask


class PrefixCache(DynamicCache):
    """Keys and values of a whole forward from block `first` on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._first = first
        self.states: dict[int, tuple[Tensor, Tensor]] = {}  # [row head token d_head]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if layer_idx >= self._first:
            self.states[layer_idx] = key_states, value_states
        return key_states, value_states

    def inputs(
        self, rows: Tensor, begin: Tensor, places: Int[Tensor, "run token"], dtype: torch.dtype
    ) -> dict[str, Any]:
        """What a forward of these tokens needs to see those before them."""
        width, runs = int(begin.max()), places.shape[1]
        before = torch.arange(width) >= begin.view(-1, 1, 1)
        causal = torch.ones(runs, runs, dtype=torch.bool).triu(1)
        hidden = torch.cat([before.expand(-1, runs, -1), causal.expand(len(rows), -1, -1)], 2)
        return {
            "position_ids": places,
            "attention_mask": additive_mask(hidden, dtype).to(places.device),
            CACHE: _Before(self.states, rows, width),
            "use_cache": True,
        }


class _Before(DynamicCache):
    """Puts the first `width` kept keys and values of `rows` before those of the tokens that run."""

    def __init__(
        self, states: Mapping[int, tuple[Tensor, Tensor]], rows: Tensor, width: int
    ) -> None:
        super().__init__()
        self._states, self._rows, self._width = states, rows, width
        recorded = len(next(iter(states.values()))[0])
        self._all = torch.equal(rows, torch.arange(recorded))  # then there is nothing to pick

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        both = zip(self._states[layer_idx], (key_states, value_states), strict=True)
        keys, values = (torch.cat([self._before(kept), new], 2) for kept, new in both)
        return keys, values

    def _before(self, kept: Float[Tensor, "row head token d_head"]) -> Tensor:
        first = kept[:, :, : self._width]
        return first if self._all else first[self._rows.to(kept.device)]
