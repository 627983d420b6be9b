"""Inner products of weight gradients that are never formed, and in-place low-rank updates.

Axes: `token` flat token axis of a padded or packed batch · `row` slice of it, one sequence ·
`pair` old and new row of one request · `d_in`, `d_out` sides of the linear map · `rank` of an edit.
A row is `(start, length)` on the token axis.

Rows are CPU tensors even if the activations are on a GPU: they come from token counts that the host
knows, and it checks bounds and plans kernels from them. Reading them back from the GPU would
synchronise once per matrix in a backward pass that otherwise never waits.

The ops have no gradient and refuse inputs that require one: detach first. `kernels()` names the
implementation that serves each device.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lga_fast.ops._checks import (
    check_bounds,
    check_grad_abs_sum,
    check_grad_dot,
    check_low_rank_update_,
)
from lga_fast.ops._library import build_info, kernels, run_checked

__all__ = ["build_info", "grad_abs_sum", "grad_dot", "kernels", "low_rank_update_"]


def grad_dot(
    a_old: Float[Tensor, "token_old d_in"],
    d_old: Float[Tensor, "token_old d_out"],
    rows_old: Int64[Tensor, "pair 2"],
    a_new: Float[Tensor, "token_new d_in"],
    d_new: Float[Tensor, "token_new d_out"],
    rows_new: Int64[Tensor, "pair 2"],
    *,
    bias: bool = False,
) -> Float[Tensor, "pair *part 3"]:
    """Inner product and squared norms of two weight gradients per pair, without the gradients.

    `<G_old, G_new>, ‖G_old‖², ‖G_new‖²` with `G = dᵀa` over a row's tokens, by
    `<d₁ᵀa₁, d₂ᵀa₂> = Σ_ts (a₁a₂ᵀ)_ts (d₁d₂ᵀ)_ts` or by tiles of G, whichever is cheaper.
    LGA's φ is the first column (arXiv 2602.20207, §5.1); the identity for the norms is Goodfellow
    2015 (arXiv 1510.01799). With `bias` the result is [pair 2 3]: of the weight, and of the bias,
    whose gradient is the sum of d over a row's tokens.

    Sums are float32 (float64 for float64 input) or better; the kernels' order of summation depends
    neither on threads nor on other pairs. Inputs may have any strides, and one tensor may be both
    old and new; a row of length 0 gives 0.

    A CUDA graph keeps the rows it was captured with, since kernels take them as parameters: replay
    it with other values of `a` and `d`, but capture it anew for other rows.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape, dtype, device or bounds.

    Example:
        >>> a, d = torch.randn(10, 4), torch.randn(10, 3)
        >>> rows = torch.tensor([[0, 10]])
        >>> dot, norm2_old, norm2_new = grad_dot(a, d, rows, a, 2 * d, rows)[0]
        >>> torch.allclose(dot, 2 * (d.T @ a).square().sum())
        True
    """
    check_grad_dot(a_old, d_old, rows_old, a_new, d_new, rows_new)
    try:
        taps = a_old, d_old, rows_old, a_new, d_new, rows_new
        return run_checked(torch.ops.lga_fast.grad_dot, *taps, bias)
    except RuntimeError:
        check_bounds("grad_dot", "rows_old", rows_old, a_old.shape[0])
        check_bounds("grad_dot", "rows_new", rows_new, a_new.shape[0])
        raise


def grad_abs_sum(
    a: Float[Tensor, "token d_in"],
    d: Float[Tensor, "token d_out"],
    rows: Int64[Tensor, "row 2"],
) -> Float[Tensor, " row"]:
    """Sum of the absolute values of each row's weight gradient, a tile of the gradient at a time.

    `Σ_oi |G_oi|` with `G = dᵀa` over the row's tokens: SaLEM's layer score, which arXiv 2602.20207
    compares with. Nothing of size `d_out·d_in` is held. Sums, strides, errors as for `grad_dot`.

    Example:
        >>> a, d = torch.randn(10, 4), torch.randn(10, 3)
        >>> torch.allclose(grad_abs_sum(a, d, torch.tensor([[0, 10]]))[0], (d.T @ a).abs().sum())
        True
    """
    check_grad_abs_sum(a, d, rows)
    try:
        return run_checked(torch.ops.lga_fast.grad_abs_sum, a, d, rows)
    except RuntimeError:
        check_bounds("grad_abs_sum", "rows", rows, a.shape[0])
        raise


def low_rank_update_(
    weight: Float[Tensor, "d_out d_in"],
    left: Float[Tensor, "d_out rank"],
    right: Float[Tensor, "d_in rank"],
    scale: float = 1.0,
) -> None:
    """Add a low-rank edit to a weight in place.

    `weight += scale · left·rightᵀ` in float32 arithmetic (float64 for a float64 weight), rounded
    once when stored. `weight` may have any strides: for a weight stored `[d_in d_out]` (GPT-2's
    Conv1D) pass `weight.T`, for a fused matrix a slice; memory outside its elements is not touched.
    `left` and `right` may be views of `weight`: their values before the update count.

    Subtracting the same edit does not restore the bits of `weight`: keep a copy for that. Errors as
    for `grad_dot`, also for elements that share memory.

    Example:
        >>> weight = torch.zeros(3, 4)
        >>> low_rank_update_(weight, torch.ones(3, 1), torch.ones(4, 1), scale=2.0)
        >>> weight.sum().item()
        24.0
    """
    check_low_rank_update_(weight, left, right)
    left, right = left.resolve_neg(), right.resolve_neg()
    torch.ops.lga_fast.low_rank_update_(weight, left, right, float(scale))
