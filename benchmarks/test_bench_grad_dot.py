"""grad_dot: GPT-2 and Llama shapes, short and long rows, a bias (d_in = 1), a tiny model."""

import pytest
import torch

try:
    from benchmarks import kernel_and_reference as pair
except ImportError:
    import kernel_and_reference as pair
from lga_fast import ops
from lga_fast.ops import reference

SHAPES = [
    {"pair": 8, "t": 17, "d_in": 768, "d_out": 3072},
    {"pair": 30, "t": 24, "d_in": 192, "d_out": 768},
    {"pair": 8, "t": 200, "d_in": 768, "d_out": 3072},
    {"pair": 8, "t": 20, "d_in": 4096, "d_out": 11008},
    {"pair": 8, "t": 17, "d_in": 1, "d_out": 3072},
    {"pair": 4, "t": 600, "d_in": 128, "d_out": 128},
]


def call_of(implementation, shape, dtype, device):
    tokens = 2 * shape["pair"] * shape["t"]
    a = pair.normal(tokens, shape["d_in"], dtype=dtype, device=device)
    d = pair.normal(tokens, shape["d_out"], dtype=dtype, device=device)
    start = torch.arange(2 * shape["pair"]) * shape["t"]
    rows = torch.stack([start, torch.full_like(start, shape["t"])], 1)
    op = ops.grad_dot if implementation == "kernel" else reference.grad_dot
    return lambda: op(a, d, rows[: shape["pair"]], a, d, rows[shape["pair"] :])


@pytest.mark.parametrize("implementation", pair.IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", pair.HALF_AND_FULL, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=pair.name_of)
def test_bench_grad_dot(benchmark, implementation, shape, dtype):
    benchmark.group = f"grad_dot {pair.name_of(shape)} {dtype}"
    benchmark(call_of(implementation, shape, dtype, "cpu"))


if __name__ == "__main__":
    pair.write("grad_dot", SHAPES, call_of)
