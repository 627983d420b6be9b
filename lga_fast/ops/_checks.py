"""The boundary: kernels trust what has passed here. Messages name op, argument, expected, got."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_grad_dot(
    a_old: Tensor, d_old: Tensor, rows_old: Tensor, a_new: Tensor, d_new: Tensor, rows_new: Tensor
) -> None:
    """Refuse arguments of `grad_dot`; bounds of rows are left to the kernels."""
    op = "grad_dot"
    check_taps(op, a_old, d_old, "_old")
    check_taps(op, a_new, d_new, "_new")
    for name, old, new in (("a", a_old, a_new), ("d", d_old, d_new)):
        require(
            old.shape[1] == new.shape[1],
            f"{op}: {name}_new: expected {old.shape[1]} columns as {name}_old, got {new.shape[1]}",
        )
    check_like(op, a_old, "a_old", a_new, "a_new")
    check_rows(op, "rows_old", rows_old)
    check_rows(op, "rows_new", rows_new)
    require(
        rows_old.shape[0] == rows_new.shape[0],
        f"{op}: rows_new: expected {len(rows_old)} rows as rows_old, got {len(rows_new)}",
    )


def check_grad_abs_sum(a: Tensor, d: Tensor, rows: Tensor) -> None:
    """Refuse arguments of `grad_abs_sum`; bounds of rows are left to the kernels."""
    check_taps("grad_abs_sum", a, d, "")
    check_rows("grad_abs_sum", "rows", rows)


def check_low_rank_update_(weight: Tensor, left: Tensor, right: Tensor) -> None:
    """Refuse arguments of `low_rank_update_`."""
    op = "low_rank_update_"
    check_matrix(op, "weight", weight, FLOATS)
    for name, factor, side in (("left", left, 0), ("right", right, 1)):
        check_matrix(op, name, factor, (torch.float32, torch.float64))
        require(
            factor.shape[0] == weight.shape[side],
            f"{op}: {name}: expected {weight.shape[side]} rows as weight has on axis {side}, "
            f"got {factor.shape[0]}",
        )
        require(
            factor.device == weight.device,
            f"{op}: {name}: expected device {weight.device} as weight, got {factor.device}",
        )
    require(
        left.shape[1] == right.shape[1],
        f"{op}: right: expected rank {left.shape[1]} as left, got {right.shape[1]}",
    )
    check_like(op, left, "left", right, "right")
    check_writable(op, weight)


def check_matrix(op: str, name: str, x: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    """Refuse what is not a plain matrix of one of these dtypes."""
    check_plain(op, name, x)
    require(x.ndim == 2, f"{op}: {name}: expected 2 axes, got shape {tuple(x.shape)}")
    require(
        x.dtype in dtypes,
        f"{op}: {name}: expected dtype {' or '.join(str(d) for d in dtypes)}, got {x.dtype}",
    )


def check_plain(op: str, name: str, x: Tensor) -> None:
    """Refuse what is not dense, or what a derivative is asked of in either mode."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name}: expected a Tensor, got {type(x).__name__}")
    require(
        x.layout == torch.strided and not x.is_nested,
        f"{op}: {name}: expected a dense tensor (pass {name}.to_dense()), got "
        f"{'a nested one' if x.is_nested else x.layout}",
    )
    require(
        not x.requires_grad,
        f"{op}: {name}: expected a tensor without requires_grad (the op has no gradient; "
        f"pass {name}.detach()), got one that requires it",
    )
    require(
        forward_ad.unpack_dual(x).tangent is None,
        f"{op}: {name}: expected a tensor without a tangent (the op has no derivative in forward "
        "mode either), got one that has it",
    )


def check_like(op: str, x: Tensor, x_name: str, y: Tensor, y_name: str) -> None:
    """Refuse another dtype or device than that of `x`."""
    require(
        y.dtype == x.dtype, f"{op}: {y_name}: expected dtype {x.dtype} as {x_name}, got {y.dtype}"
    )
    require(
        y.device == x.device,
        f"{op}: {y_name}: expected device {x.device} as {x_name}, got {y.device}",
    )


def check_taps(op: str, a: Tensor, d: Tensor, suffix: str) -> None:
    """`a` and `d` of one linear map: same tokens, dtype and device."""
    check_matrix(op, f"a{suffix}", a, FLOATS)
    check_matrix(op, f"d{suffix}", d, FLOATS)
    check_like(op, a, f"a{suffix}", d, f"d{suffix}")
    require(
        a.shape[0] == d.shape[0],
        f"{op}: d{suffix}: expected {a.shape[0]} tokens as a{suffix}, got {d.shape[0]}",
    )


def check_rows(op: str, name: str, rows: Tensor) -> None:
    """Refuse what is not an int64 CPU tensor [n 2]."""
    if not isinstance(rows, Tensor):
        raise TypeError(f"{op}: {name}: expected an int64 Tensor, got {type(rows).__name__}")
    require(
        rows.ndim == 2 and rows.shape[1] == 2,
        f"{op}: {name}: expected shape [n, 2] (start, length), got {tuple(rows.shape)}",
    )
    require(
        rows.dtype == torch.int64, f"{op}: {name}: expected dtype torch.int64, got {rows.dtype}"
    )
    require(
        rows.device.type == "cpu",
        f"{op}: {name}: expected a CPU tensor (bounds are checked on the host), got {rows.device}",
    )


def check_bounds(op: str, name: str, rows: Tensor, tokens: int) -> None:
    """Name the row at fault, once an op has refused its rows: asking before would take longer."""
    for row, (start, length) in enumerate(rows.tolist()):
        require(
            start >= 0 and length >= 0 and start + length <= tokens,
            f"{op}: {name}[{row}]: expected 0 <= start, 0 <= length, "
            f"start + length <= {tokens} tokens, got start {start}, length {length}",
        )


def check_writable(op: str, weight: Tensor) -> None:
    """Refuse elements that share memory, or that are stored with another sign.

    Of two elements in one memory cell, one or both updates would take effect, by chance.
    """
    axes = sorted(
        (stride, size)
        for stride, size in zip(weight.stride(), weight.shape, strict=True)
        if size > 1
    )
    apart = all(stride > 0 for stride, _ in axes)
    if len(axes) == 2:
        (near, near_size), (far, _) = axes
        apart = apart and far > near * (near_size - 1)
    require(
        apart or weight.numel() == 0,
        f"{op}: weight: expected elements that do not share memory, got strides {weight.stride()} "
        f"for shape {tuple(weight.shape)}",
    )
    require(
        torch.compiler.is_compiling() or not weight.is_neg(),
        f"{op}: weight: expected one that is stored as it is, got a view with the negative bit "
        "(torch.imag of a conjugate): update a copy, weight.resolve_neg()",
    )
