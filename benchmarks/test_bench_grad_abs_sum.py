"""grad_abs_sum: every entry of G is formed once, so torch's matrix product is the mark to reach."""

import pytest
import torch

try:
    from benchmarks import kernel_and_reference as pair
except ImportError:
    import kernel_and_reference as pair
from lga_fast import ops
from lga_fast.ops import reference

SHAPES = [
    {"row": 8, "t": 17, "d_in": 768, "d_out": 3072},
    {"row": 2, "t": 200, "d_in": 768, "d_out": 3072},
    {"row": 30, "t": 24, "d_in": 192, "d_out": 768},
]


def call_of(implementation, shape, dtype, device):
    tokens = shape["row"] * shape["t"]
    a = pair.normal(tokens, shape["d_in"], dtype=dtype, device=device)
    d = pair.normal(tokens, shape["d_out"], dtype=dtype, device=device)
    start = torch.arange(shape["row"]) * shape["t"]
    rows = torch.stack([start, torch.full_like(start, shape["t"])], 1)
    op = ops.grad_abs_sum if implementation == "kernel" else reference.grad_abs_sum
    return lambda: op(a, d, rows)


@pytest.mark.parametrize("implementation", pair.IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", pair.HALF_AND_FULL, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=pair.name_of)
def test_bench_grad_abs_sum(benchmark, implementation, shape, dtype):
    benchmark.group = f"grad_abs_sum {pair.name_of(shape)} {dtype}"
    benchmark(call_of(implementation, shape, dtype, "cpu"))


if __name__ == "__main__":
    pair.write("grad_abs_sum", SHAPES, call_of)
