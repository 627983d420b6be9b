"""low_rank_update_: bound by memory at an edit's rank, by arithmetic at the rank of many edits."""

import pytest
import torch

try:
    from benchmarks import kernel_and_reference as pair
except ImportError:
    import kernel_and_reference as pair
from lga_fast import ops
from lga_fast.ops import reference

SHAPES = [
    {"d_out": 768, "d_in": 3072, "rank": 1},
    {"d_out": 4096, "d_in": 11008, "rank": 1},
    {"d_out": 768, "d_in": 3072, "rank": 32},
]


def call_of(implementation, shape, dtype, device):
    weight = pair.normal(shape["d_out"], shape["d_in"], dtype=dtype, device=device)
    left = pair.normal(shape["d_out"], shape["rank"], dtype=torch.float32, device=device)
    right = pair.normal(shape["d_in"], shape["rank"], dtype=torch.float32, device=device)
    op = ops.low_rank_update_ if implementation == "kernel" else reference.low_rank_update_
    return lambda: op(weight, left, right, 1e-3)


@pytest.mark.parametrize("implementation", pair.IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", pair.HALF_AND_FULL, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=pair.name_of)
def test_bench_low_rank_update_(benchmark, implementation, shape, dtype):
    benchmark.group = f"low_rank_update_ {pair.name_of(shape)} {dtype}"
    benchmark(call_of(implementation, shape, dtype, "cpu"))


if __name__ == "__main__":
    pair.write("low_rank_update_", SHAPES, call_of)
