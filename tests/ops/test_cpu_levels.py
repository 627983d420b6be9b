"""Every instruction set's kernels, not only those that this processor prefers."""

import pytest
import torch

from lga_fast import ops
from lga_fast.ops import reference
from tests.ops.cases import DTYPES, cpu_level, cpu_levels, matrix, packed_rows
from tests.ops.closeness import assert_no_worse_than_torch


@pytest.fixture(params=cpu_levels())
def level(request):
    with cpu_level(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d_in, d_out", [(1, 300), (2, 67), (97, 61), (500, 401)])
def test_sums(level, dtype, d_in, d_out):
    rows = packed_rows(17, 1, 0, 31, 130, 65, gap=1)
    a, d = matrix(250, d_in, dtype), matrix(250, d_out, dtype, seed=1)
    inputs, exact = (a, d, rows), (a.double(), d.double(), rows)
    other = (a, d, rows.flip(0))
    oracle = reference.grad_dot(*exact, *exact[:2], rows.flip(0))
    scale = torch.cat([oracle[:, 1:].prod(1, keepdim=True).sqrt(), oracle[:, 1:]], 1)
    plain = reference.grad_dot(*inputs, *other)
    assert_no_worse_than_torch(ops.grad_dot(*inputs, *other), plain, oracle, scale)
    assert_no_worse_than_torch(
        ops.grad_abs_sum(*inputs), reference.grad_abs_sum(*inputs), reference.grad_abs_sum(*exact)
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_update(level, dtype):
    left, right = matrix(61, 5), matrix(300, 5, seed=1)
    got, plain = matrix(61, 300, dtype), matrix(61, 300, dtype)
    oracle = got.double() + 0.5 * left.double() @ right.double().T
    scale = got.double().abs() + 0.5 * left.double().abs() @ right.double().abs().T
    ops.low_rank_update_(got, left, right, 0.5)
    reference.low_rank_update_(plain, left, right, 0.5)
    assert_no_worse_than_torch(got, plain, oracle, scale)


def test_every_half_is_read_and_written_as_torch_does(level):
    """All 65536 of them: each level has its own conversions."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    one = torch.ones(1, 1)
    for dtype in (torch.float16, torch.bfloat16):
        values = bits.view(dtype)
        weight = values.clone()[None]
        ops.low_rank_update_(weight, one, torch.zeros(len(values), 1))
        torch.testing.assert_close(weight[0], values, rtol=0, atol=0, equal_nan=True)
        finite = values[values.isfinite()]
        between = finite.float() * (1 + torch.finfo(dtype).eps / 2)
        weight = torch.zeros(1, len(finite), dtype=dtype)
        ops.low_rank_update_(weight, one, between[:, None])
        torch.testing.assert_close(weight[0], between.to(dtype), rtol=0, atol=0)
        # large ones left out: a sum of 64 of them would overflow
        read = torch.where(finite.abs() < 1e30, finite, 0).reshape(-1, 64)
        rows = packed_rows(*[1] * len(read))
        sums = ops.grad_abs_sum(read, torch.ones(len(read), 1, dtype=dtype), rows)
        torch.testing.assert_close(sums, read.double().abs().sum(1).float(), rtol=1e-6, atol=0)


def test_an_unknown_level_is_refused():
    if cpu_levels() == ["reference"]:
        pytest.skip("the extension is not there")
    from lga_fast import _C

    with pytest.raises(ValueError, match=r"expected one of .*cpu_levels.*, got avx1024"):
        _C.use_cpu_level("avx1024")
