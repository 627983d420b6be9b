"""The rule by which kernels are judged: no taste, only torch.

A kernel's error against a float64 oracle may be at most twice that of plain torch in the same
dtype, plus a rounding-sized term. Errors are relative to `scale`, which for an inner product is the
product of the norms: a product of two nearly orthogonal gradients has no smaller error than one of
two parallel ones.
"""

import torch
from torch import Tensor

ROUNDINGS = 4  # the rounding-sized term, in units of the result's dtype
ROUNDINGS_DOUBLE = 32  # the oracle is float64 itself: its own error is not seen in torch's


def assert_no_worse_than_torch(
    kernel: Tensor, torch_result: Tensor, oracle: Tensor, scale: Tensor | None = None
) -> float:
    """Returns the kernel's error in % of the allowed one, printed too: drift shows early."""
    assert kernel.dtype == torch_result.dtype, (kernel.dtype, torch_result.dtype)
    assert kernel.shape == torch_result.shape == oracle.shape, (kernel.shape, oracle.shape)
    if not oracle.numel():
        return 0.0
    oracle = oracle.double().cpu()
    scale = oracle.abs() if scale is None else scale.double().cpu()
    # where the scale is 0 the result must be exact
    scale = torch.where(scale == 0, torch.finfo(torch.float64).tiny, scale)
    error = ((kernel.double().cpu() - oracle).abs() / scale).max().item()
    torch_error = ((torch_result.double().cpu() - oracle).abs() / scale).max().item()
    roundings = ROUNDINGS_DOUBLE if kernel.dtype == torch.float64 else ROUNDINGS
    allowed = 2 * torch_error + roundings * torch.finfo(kernel.dtype).eps
    percent = 100 * error / allowed
    print(f"error {error:.2e}, torch {torch_error:.2e}: {percent:.0f}% of allowed")
    assert error <= allowed, f"error {error:.3e} > {allowed:.3e} (torch: {torch_error:.3e})"
    return percent
