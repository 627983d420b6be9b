"""Inputs shared by the ops' tests, on every device."""

import contextlib

import pytest
import torch
from torch import Tensor

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.cuda,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# contiguous; the first columns of a wider buffer; some in its middle; every second one; stored
# column by column. The rows of the buffer are aligned to 16 bytes, its middle is not.
LAYOUTS = ["contiguous", "padded", "sliced", "strided", "transposed"]


def matrix(
    rows: int,
    cols: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    layout: str = "contiguous",
    seed: int = 0,
) -> Tensor:
    """Normal values; what surrounds a slice is nan, so that a wrong stride cannot pass."""
    generator = torch.Generator().manual_seed(seed + 31 * rows + cols)
    values = torch.randn(rows, cols, generator=generator, dtype=torch.float64).to(dtype).to(device)
    if layout == "contiguous":
        return values
    if layout == "transposed":
        return values.T.contiguous().T
    width = -(-(2 * cols + 3) // 8) * 8
    buffer = torch.full((rows + 2, width), torch.nan, dtype=dtype, device=device)
    columns = {
        "padded": slice(0, cols),
        "sliced": slice(3, cols + 3),
        "strided": slice(0, 2 * cols, 2),
    }
    view = buffer[1 : rows + 1, columns[layout]]
    view.copy_(values)
    return view


def packed_rows(*lengths: int, gap: int = 0, start: int = 0) -> Tensor:
    """Rows behind one another on the token axis."""
    rows = []
    for length in lengths:
        rows.append((start, length))
        start += length + gap
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 2)


def cpu_levels() -> list[str]:
    """The instruction sets that can be tested here; the reference alone without the extension."""
    from lga_fast import ops

    extension = ops.build_info()["extension"]
    return extension["cpu_levels"] if extension else ["reference"]


@contextlib.contextmanager
def cpu_level(name: str):
    """Run with another instruction set's kernels."""
    if name == "reference":
        yield
        return
    from lga_fast import _C

    best = _C.build_info()["cpu_level"]
    _C.use_cpu_level(name)
    try:
        yield
    finally:
        _C.use_cpu_level(best)
