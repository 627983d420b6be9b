"""`grad_dot` as batched matrix products, three of each factor: what torch does well on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor


def grad_dot(
    a_old: Tensor,
    d_old: Tensor,
    rows_old: Tensor,
    a_new: Tensor,
    d_new: Tensor,
    rows_new: Tensor,
    *,
    bias: bool = False,
) -> Tensor:
    """As `lga_fast.ops.grad_dot`; rows are padded to the longest with zeros."""
    a, b = _padded(a_old, rows_old), _padded(a_new, rows_new)
    d, e = _padded(d_old, rows_old), _padded(d_new, rows_new)
    of_weight, of_bias = [], []
    for x, y, u, v in ((a, b, d, e), (a, a, d, d), (b, b, e, e)):
        gram = _gram(u, v)
        of_weight.append((_gram(x, y) * gram).sum((1, 2)))
        of_bias.append(gram.sum((1, 2)))
    weight = torch.stack(of_weight, 1)
    return torch.stack([weight, torch.stack(of_bias, 1)], 1) if bias else weight


def _padded(x: Tensor, rows: Tensor) -> Tensor:
    """[pair token d]."""
    start, length = rows.to(x.device).T.unsqueeze(2)
    token = torch.arange(int(rows[:, 1].max()), device=x.device)
    inside = token < length
    return x[(start + token) * inside] * inside.unsqueeze(2)


def _gram(x: Tensor, y: Tensor) -> Tensor:
    """Products in x's precision, sums in float32."""
    if x.is_cuda and x.dtype in (torch.bfloat16, torch.float16):
        return torch.bmm(x, y.mT, out_dtype=torch.float32)
    return torch.bmm(x, y.mT) if x.dtype == torch.float64 else torch.bmm(x.float(), y.mT.float())
