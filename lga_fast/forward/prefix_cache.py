"""Keys and values of a forward, recorded for later ones that continue its rows."""

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
        self, rows: Tensor, start: Tensor, positions: Int[Tensor, "run token"], dtype: torch.dtype
    ) -> dict[str, Any]:
        """Inputs with which a forward of these tokens attends to those before them."""
        width, runs = int(start.max()), positions.shape[1]
        prefix = torch.arange(width) >= start.view(-1, 1, 1)
        causal = torch.ones(runs, runs, dtype=torch.bool).triu(1)
        hidden = torch.cat([prefix.expand(-1, runs, -1), causal.expand(len(rows), -1, -1)], 2)
        return {
            "position_ids": positions,
            "attention_mask": additive_mask(hidden, dtype).to(positions.device),
            CACHE: _Before(self.states, rows, width),
            "use_cache": True,
        }


class _Before(DynamicCache):
    """Prepends the first `width` recorded keys and values of `rows` to those of a forward."""

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
        keys, values = (torch.cat([self._prefix(states), new], 2) for states, new in both)
        return keys, values

    def _prefix(self, states: Float[Tensor, "row head token d_head"]) -> Tensor:
        first = states[:, :, : self._width]
        return first if self._all else first[self._rows.to(states.device)]
