import pytest
import torch

from lga_fast import ops
from lga_fast.ops import reference
from tests.ops.cases import DEVICES, DTYPES, LAYOUTS, matrix, packed_rows
from tests.ops.closeness import assert_no_worse_than_torch


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "d_in, d_out",
    [(1, 1), (1, 300), (257, 1), (2, 67), (49, 257), (128, 192), (97, 61), (301, 513)],
)
def test_rows_of_every_length(device, dtype, d_in, d_out):
    rows = packed_rows(17, 1, 0, 128, 31, 129, gap=1)
    a, d = matrix(320, d_in, dtype, device), matrix(320, d_out, dtype, device, seed=1)
    got = ops.grad_abs_sum(a, d, rows)
    oracle = reference.grad_abs_sum(a.double(), d.double(), rows)
    # an entry of G may be a sum whose terms cancel; its error is that of the terms
    scale = reference.grad_abs_sum(a.double().abs(), d.double().abs(), rows)
    assert_no_worse_than_torch(got, reference.grad_abs_sum(a, d, rows), oracle, scale)
    assert got[2] == 0


@pytest.mark.parametrize("device", DEVICES)
def test_long_rows(device):
    a, d, rows = (
        matrix(813, 90, device=device),
        matrix(813, 70, device=device),
        packed_rows(513, 300),
    )
    oracle = reference.grad_abs_sum(a.double(), d.double(), rows)
    assert_no_worse_than_torch(
        ops.grad_abs_sum(a, d, rows), reference.grad_abs_sum(a, d, rows), oracle
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_strides_make_no_difference(device, layout, dtype):
    rows = packed_rows(9, 20, gap=3)
    a, d = matrix(40, 65, dtype, device), matrix(40, 77, dtype, device, seed=1)
    got = ops.grad_abs_sum(
        matrix(40, 65, dtype, device, layout), matrix(40, 77, dtype, device, layout, seed=1), rows
    )
    expected = ops.grad_abs_sum(a, d, rows)
    if ops.kernels()[device].startswith("torch reference"):
        torch.testing.assert_close(got, expected)  # torch picks its product by the layout
    else:
        assert torch.equal(got, expected)


def test_threads_do_not_change_a_bit():
    a, d, rows = matrix(60, 300), matrix(60, 200, seed=1), packed_rows(17, 43)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = ops.grad_abs_sum(a, d, rows)
        torch.set_num_threads(4)
        four = ops.grad_abs_sum(a, d, rows)
    finally:
        torch.set_num_threads(threads)
    if ops.kernels()["cpu"].startswith("torch reference"):
        torch.testing.assert_close(one, four)
    else:
        assert torch.equal(one, four)


@pytest.mark.parametrize("device", DEVICES)
def test_nothing_in_nothing_out(device):
    a, d = matrix(4, 3, device=device), matrix(4, 2, device=device)
    assert ops.grad_abs_sum(a, d, packed_rows()).shape == (0,)
    assert ops.grad_abs_sum(a[:0], d[:0], packed_rows(0)).tolist() == [0]
    assert ops.grad_abs_sum(a[:, :0], d, packed_rows(4)).tolist() == [0]
    assert ops.grad_abs_sum(a[:, :0], d[:, :0], packed_rows(4)).tolist() == [0]


@pytest.mark.parametrize("device", DEVICES)
def test_nan_comes_through(device):
    a, d = matrix(6, 40, device=device), matrix(6, 30, device=device, seed=1)
    d[4, 3] = torch.nan
    got = ops.grad_abs_sum(a, d, packed_rows(3, 3))
    assert got[0].isfinite() and got[1].isnan()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_opcheck(device, dtype):
    a, d = matrix(10, 4, dtype, device), matrix(10, 3, dtype, device)
    torch.library.opcheck(torch.ops.lga_fast.grad_abs_sum.default, (a, d, packed_rows(6, 4)))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"a": matrix(5, 4).long()}, "grad_abs_sum: a: expected dtype .*got torch.int64"),
        ({"d": matrix(4, 3)}, "grad_abs_sum: d: expected 5 tokens as a, got 4"),
        ({"d": matrix(5, 3).requires_grad_()}, r"grad_abs_sum: d: .*pass d.detach\(\)"),
        ({"rows": torch.tensor([[4, 2]])}, r"grad_abs_sum: rows\[0\]: .*<= 5 tokens, got start 4"),
    ],
)
def test_bad_input_is_refused_with_numbers(change, message):
    good = {"a": matrix(5, 4), "d": matrix(5, 3), "rows": packed_rows(5)}
    with pytest.raises(ValueError, match=message):
        ops.grad_abs_sum(**{**good, **change})
