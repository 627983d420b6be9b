"""Attention of rows that continue recorded ones: over recorded keys and values, and their own.

Padded rows attend as the model does, with a cache that prepends what was recorded; rows packed on
one token axis attend by `VarlenAttention`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import DynamicCache

from lga_fast.models.kv_cache import CACHE
from lga_fast.models.tensor_utils import additive_mask, wide

# By block, keys and values [row head token d_head].
KeysAndValues = Mapping[int, tuple[Tensor, Tensor]]


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

    def __init__(self, states: KeysAndValues, rows: Tensor, width: int) -> None:
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


class Queries(NamedTuple):
    """Tokens in ascending order, and the same by run, padded."""

    index: Int[Tensor, " query"]
    padded: Int[Tensor, "run column"]
    padded_index: Int[Tensor, " query"]  # of each in the flattened `padded`
    mask: Float[Tensor, "run 1 1 column key"]

    def to(self, device: torch.device) -> Queries:
        """The same on a device."""
        return Queries(*(x.to(device) for x in self))

    def by_run(self, x: Float[Tensor, "1 token head d"]) -> Float[Tensor, "run head column d"]:
        """Values by run; padding repeats some other token."""
        picked = wide(x[0].index_select(0, self.padded.flatten()))
        return picked.unflatten(0, self.padded.shape).transpose(1, 2)

    def scattered(self, x: Float[Tensor, "1 token head d"]) -> Float[Tensor, "run head column d"]:
        """Values by run; padding is zero."""
        run, column = self.padded.shape
        full = x.new_zeros(run * column, *x.shape[2:])
        full.index_copy_(0, self.padded_index, x[0].index_select(0, self.index))
        return wide(full).unflatten(0, (run, column)).transpose(1, 2).contiguous()

    def by_token(
        self, x: Float[Tensor, "run head column d"], tokens: int, dtype: torch.dtype
    ) -> Float[Tensor, "1 token head d"]:
        """Values by token again; zeros for tokens that are not among these."""
        values = x.transpose(1, 2).flatten(0, 1).index_select(0, self.padded_index).to(dtype)
        if len(values) < tokens:
            full = values.new_zeros(tokens, *values.shape[1:])
            values = full.index_copy_(0, self.index, values)
        return values.unsqueeze(0)


class AttentionSpec(NamedTuple):
    """What the attention depends on besides its inputs."""

    queries: Queries
    keys: Queries  # all tokens: those that are looked at
    scaling: float
    softcap: float | None


class VarlenAttention(torch.autograd.Function):
    """Attention of each run over its recorded prefix, which gets no gradient, and its own tokens.

    `k` and `v` hold the prefix, and room for the run's own at the end. torch's fused CPU op is
    slower for few queries, and computes the gradient of all keys.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "1 head token d_head"],
        key: Float[Tensor, "1 key_head token d_head"],
        value: Float[Tensor, "1 key_head token d_value"],
        k: Float[Tensor, "run key_head seen d_head"],
        v: Float[Tensor, "run key_head seen d_value"],
        spec: AttentionSpec,
    ) -> Float[Tensor, "1 token head d_value"]:
        q = spec.queries.by_run(query.transpose(1, 2)).contiguous()
        heads, columns = q.shape[1:3]
        own_keys = spec.keys.padded.shape[1]
        for full, part in ((k, key), (v, value)):
            full[:, :, -own_keys:] = spec.keys.by_run(part.transpose(1, 2))
        q = q.view(*k.shape[:2], -1, q.shape[3])  # heads that share a key head follow each other
        scores = (q @ k.mT).mul_(spec.scaling)
        capped = None
        if spec.softcap is not None:
            capped = scores.div_(spec.softcap).tanh_()
            scores = capped * spec.softcap
        scores.unflatten(2, (-1, columns)).add_(spec.queries.mask)
        p = scores.softmax(-1)
        mixed = (p @ v).view(len(q), heads, columns, -1)
        ctx.save_for_backward(q, k, v, p, capped)
        ctx.spec, ctx.like = spec, (query.shape[2], query.dtype)
        return spec.queries.by_token(mixed, *ctx.like)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "1 token head d_value"]) -> Any:
        q, k, v, p, capped = ctx.saved_tensors
        spec = ctx.spec
        before = k.shape[2] - spec.keys.padded.shape[1]
        g = spec.queries.scattered(grad).view(*k.shape[:2], -1, v.shape[3])
        slope = torch.ops.aten._softmax_backward_data(g @ v.mT, p, -1, p.dtype)
        slope.mul_(spec.scaling)
        if capped is not None:
            slope.mul_(1 - capped.square())
        own_keys = slope[..., before:].mT, p[..., before:].mT
        shape = len(q), -1, spec.queries.padded.shape[1], q.shape[3]
        return (
            spec.queries.by_token((slope @ k).view(shape), *ctx.like).transpose(1, 2),
            spec.keys.by_token(own_keys[0] @ q, *ctx.like).transpose(1, 2),
            spec.keys.by_token(own_keys[1] @ g, *ctx.like).transpose(1, 2),
            None,
            None,
            None,
        )
