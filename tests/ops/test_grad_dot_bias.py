"""The sums of a bias, beside those of its weight."""

import pytest
import torch

from lga_fast import ops
from lga_fast.ops import reference
from tests.ops.cases import DEVICES, DTYPES, matrix, packed_rows
from tests.ops.closeness import assert_no_worse_than_torch


def sums(op, inputs):
    return op.grad_dot(*inputs, bias=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "d_in, d_out, more", [(2, 3, 70), (16, 1, 0), (97, 61, 0), (384, 385, 0), (0, 300, 0)]
)
def test_equal_a_column_of_ones(device, dtype, d_in, d_out, more):
    """Both forms, an empty pair, and once more pairs than one launch takes."""
    lengths = torch.tensor([17, 1, 0, 0, 31, 131, *[2] * more])
    rows_old = packed_rows(*lengths.tolist(), gap=1)
    rows_new = packed_rows(*lengths.roll(1).tolist(), start=2)
    a, d = matrix(400, d_in, dtype, device), matrix(400, d_out, dtype, device, seed=1)
    inputs = a, d, rows_old, a.flip(0), d.flip(0), rows_new
    got = sums(ops, inputs)
    assert torch.equal(got[:, 0], ops.grad_dot(*inputs))
    ones = torch.ones(400, 1, dtype=torch.float64)
    exact = [x.double().cpu() if x.is_floating_point() else x for x in inputs]
    oracle = reference.grad_dot(ones, exact[1], rows_old, ones, exact[4], rows_new)
    norms = oracle[:, 1:]
    scale = torch.cat([norms.prod(1, keepdim=True).sqrt(), norms], 1)
    assert_no_worse_than_torch(got[:, 1], sums(reference, inputs)[:, 1], oracle, scale)
    assert (got[3] == 0).all(), "an empty pair gives zeros"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("d_in, d_out", [(2, 3), (2, 300), (200, 3), (200, 300)])
def test_a_pair_does_not_see_its_company(device, d_in, d_out):
    if ops.kernels()[device].startswith("torch reference"):
        pytest.skip("batched products of torch depend on the batch's shape")
    a, d = matrix(120, d_in, device=device), matrix(120, d_out, device=device, seed=1)
    rows = packed_rows(17, 40, 3, 60)
    together = sums(ops, (a, d, rows, a, d, rows.flip(0)))
    alone = [
        sums(ops, (a, d, r[None], a, d, n[None])) for r, n in zip(rows, rows.flip(0), strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("device", DEVICES)
def test_opcheck_and_no_pairs(device):
    a, d, rows = matrix(10, 4, device=device), matrix(10, 3, device=device), packed_rows(6, 4)
    inputs = a, d, rows, a, d, rows.flip(0)
    torch.library.opcheck(torch.ops.lga_fast.grad_dot.default, inputs, {"bias": True})
    none = packed_rows()
    assert sums(ops, (a, d, none, a, d, none)).shape == (0, 2, 3)
