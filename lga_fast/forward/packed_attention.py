"""Attention of rows' tails that lie on one token axis, over recorded keys and their own."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from lga_fast.models.tensor_utils import wide


class Queries(NamedTuple):
    """Tokens in ascending order, and the same by run, padded."""

    place: Int[Tensor, " query"]
    padded: Int[Tensor, "run column"]
    of_padded: Int[Tensor, " query"]  # where they are among all of `padded`
    mask: Float[Tensor, "run 1 1 column key"]

    def to(self, device: torch.device) -> Queries:
        """The same on a device."""
        place, padded, of_padded, mask = (x.to(device) for x in self)
        return Queries(place, padded, of_padded, mask)

    def by_run(self, x: Float[Tensor, "1 token head d"]) -> Float[Tensor, "run head column d"]:
        """Of the tokens; the padding has that of some other token."""
        picked = wide(x[0].index_select(0, self.padded.flatten()))
        return picked.unflatten(0, self.padded.shape).transpose(1, 2)

    def scattered(self, x: Float[Tensor, "1 token head d"]) -> Float[Tensor, "run head column d"]:
        """Of the tokens; zeros in the padding."""
        run, column = self.padded.shape
        whole = x.new_zeros(run * column, *x.shape[2:])
        whole.index_copy_(0, self.of_padded, x[0].index_select(0, self.place))
        return wide(whole).unflatten(0, (run, column)).transpose(1, 2).contiguous()

    def by_token(
        self, x: Float[Tensor, "run head column d"], tokens: int, dtype: torch.dtype
    ) -> Float[Tensor, "1 token head d"]:
        """All tokens again; zeros for those that are not among these."""
        found = x.transpose(1, 2).flatten(0, 1).index_select(0, self.of_padded).to(dtype)
        if len(found) < tokens:
            whole = found.new_zeros(tokens, *found.shape[1:])
            found = whole.index_copy_(0, self.place, found)
        return found.unsqueeze(0)


class AttentionSpec(NamedTuple):
    """What an attention depends on beside its inputs."""

    asks: Queries
    every: Queries  # all tokens: those that are looked at
    scaling: float
    softcap: float | None


class VarlenAttention(torch.autograd.Function):
    """Attention of each run over what it saw before and its own tokens; the former has no gradient.

    `k` and `v` hold what it saw before, and room for its own at the end. torch's fused op on the
    CPU is slower where queries are few, and takes the gradient of all keys.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "1 head token d_head"],
        key: Float[Tensor, "1 key_head token d_head"],
        value: Float[Tensor, "1 key_head token d_value"],
        k: Float[Tensor, "run key_head seen d_head"],
        v: Float[Tensor, "run key_head seen d_value"],
        how: AttentionSpec,
    ) -> Float[Tensor, "1 token head d_value"]:
        q = how.asks.by_run(query.transpose(1, 2)).contiguous()
        heads, few = q.shape[1:3]
        own = how.every.padded.shape[1]
        for whole, part in ((k, key), (v, value)):
            whole[:, :, -own:] = how.every.by_run(part.transpose(1, 2))
        q = q.view(*k.shape[:2], -1, q.shape[3])  # heads that share a key head follow each other
        scores = (q @ k.mT).mul_(how.scaling)
        capped = None
        if how.softcap is not None:
            capped = scores.div_(how.softcap).tanh_()
            scores = capped * how.softcap
        scores.unflatten(2, (-1, few)).add_(how.asks.mask)
        p = scores.softmax(-1)
        mixed = (p @ v).view(len(q), heads, few, -1)
        ctx.save_for_backward(q, k, v, p, capped)
        ctx.how, ctx.like = how, (query.shape[2], query.dtype)
        return how.asks.by_token(mixed, *ctx.like)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "1 token head d_value"]) -> Any:
        q, k, v, p, capped = ctx.saved_tensors
        how = ctx.how
        before = k.shape[2] - how.every.padded.shape[1]
        g = how.asks.scattered(grad).view(*k.shape[:2], -1, v.shape[3])
        slope = torch.ops.aten._softmax_backward_data(g @ v.mT, p, -1, p.dtype)
        slope.mul_(how.scaling)
        if capped is not None:
            slope.mul_(1 - capped.square())
        own = slope[..., before:].mT, p[..., before:].mT
        shape = len(q), -1, how.asks.padded.shape[1], q.shape[3]
        return (
            how.asks.by_token((slope @ k).view(shape), *ctx.like).transpose(1, 2),
            how.every.by_token(own[0] @ q, *ctx.like).transpose(1, 2),
            how.every.by_token(own[1] @ g, *ctx.like).transpose(1, 2),
            None,
            None,
            None,
        )
