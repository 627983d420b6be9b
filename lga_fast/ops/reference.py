"""The ops in plain torch: specification, fallback, test oracle and benchmark baseline.

A linear map has inputs `a [token d_in]` and output gradients `d [token d_out]`; a row is a slice
`(start, length)` of the token axis, and its weight gradient is `G = dᵀa [d_out d_in]`.
Sums are in float32, or float64 for float64 input.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

TILE = 512  # rows of G that `grad_abs_sum` holds at a time


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums over inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _padded_rows(
    x: Float[Tensor, "token d"], rows: Int64[Tensor, "row 2"]
) -> Float[Tensor, "row t d"]:
    """The rows' tokens as one batch, zero after each row's end."""
    _check_bounds("grad_dot", rows, len(x))
    rows = rows.to(x.device)
    longest = int(rows[:, 1].max()) if len(rows) else 0
    step = torch.arange(longest, device=x.device)
    inside = step < rows[:, 1:]  # [row t]
    index = torch.where(inside, rows[:, :1] + step, 0)
    # where, not multiplication: the token used as padding may hold inf
    padded = torch.where(inside[..., None], x[index], 0)
    return padded.to(accumulation_dtype(x.dtype))


def _check_bounds(op: str, rows: Int64[Tensor, "row 2"], tokens: int) -> None:
    start, length = rows.T
    if ((start < 0) | (length < 0) | (length > tokens - start)).any():
        raise RuntimeError(f"{op}: rows: expected rows within {tokens} tokens")


def gram_is_cheaper(tokens: int, d_in: int, d_out: int) -> bool:
    """Whether Gram products cost less than G: T < 2·d_in·d_out/(d_in+d_out), by multiply-adds."""
    return tokens * (d_in + d_out) < 2 * d_in * d_out


@torch.no_grad()
def grad_dot(
    a_old: Float[Tensor, "token_old d_in"],
    d_old: Float[Tensor, "token_old d_out"],
    rows_old: Int64[Tensor, "pair 2"],
    a_new: Float[Tensor, "token_new d_in"],
    d_new: Float[Tensor, "token_new d_out"],
    rows_new: Int64[Tensor, "pair 2"],
    bias: bool = False,
) -> Float[Tensor, "pair *part 3"]:
    """`<G_old, G_new>, ‖G_old‖², ‖G_new‖²` per pair, of the weight or of weight and bias.

    `<d₁ᵀa₁, d₂ᵀa₂> = Σ_ts (a₁a₂ᵀ)_ts (d₁d₂ᵀ)_ts`
    """
    a1, d1 = _padded_rows(a_old, rows_old), _padded_rows(d_old, rows_old)
    a2, d2 = _padded_rows(a_new, rows_new), _padded_rows(d_new, rows_new)
    if gram_is_cheaper(max(a1.shape[1], a2.shape[1]), a_old.shape[1], d_old.shape[1]):
        products = [
            ((a @ b.mT) * (c @ e.mT)).sum((1, 2))
            for a, b, c, e in ((a1, a2, d1, d2), (a1, a1, d1, d1), (a2, a2, d2, d2))
        ]
    else:
        g1, g2 = d1.mT @ a1, d2.mT @ a2  # smaller than the rows themselves, by the test above
        products = [(g * h).sum((1, 2)) for g, h in ((g1, g2), (g1, g1), (g2, g2))]
    of_weight = torch.stack(products, dim=1)
    if not bias:
        return of_weight
    g1, g2 = d1.sum(1), d2.sum(1)
    of_bias = torch.stack([(g * h).sum(1) for g, h in ((g1, g2), (g1, g1), (g2, g2))], dim=1)
    return torch.stack([of_weight, of_bias], dim=1)


@torch.no_grad()
def grad_abs_sum(
    a: Float[Tensor, "token d_in"],
    d: Float[Tensor, "token d_out"],
    rows: Int64[Tensor, "row 2"],
) -> Float[Tensor, " row"]:
    """`Σ_oi |G_oi|` per row, `TILE` rows of G at a time."""
    _check_bounds("grad_abs_sum", rows, len(a))
    sums = a.new_zeros(len(rows), dtype=accumulation_dtype(a.dtype))
    for row, (start, length) in enumerate(rows.tolist()):
        a_row = a[start : start + length].to(sums.dtype)
        for d_tile in d[start : start + length].to(sums.dtype).split(TILE, dim=1):
            sums[row] += (d_tile.mT @ a_row).abs_().sum()
    return sums


@torch.no_grad()
def low_rank_update_(
    weight: Float[Tensor, "d_out d_in"],
    left: Float[Tensor, "d_out rank"],
    right: Float[Tensor, "d_in rank"],
    scale: float,
) -> None:
    """`weight += scale · left·rightᵀ` in the accumulation dtype, rounded once at the store."""
    dtype = accumulation_dtype(weight.dtype)
    delta = scale * (left.to(dtype) @ right.to(dtype).mT)
    weight.copy_(weight.to(dtype) + delta)
