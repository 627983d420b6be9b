import pytest
import torch

from lga_fast import ops
from lga_fast.ops import reference
from tests.ops.cases import DEVICES, DTYPES, LAYOUTS, matrix, packed_rows
from tests.ops.closeness import assert_no_worse_than_torch


def assert_close_to_oracle(*inputs):
    oracle = reference.grad_dot(*(x.double() if x.is_floating_point() else x for x in inputs))
    norms = oracle[:, 1:]
    scale = torch.cat([norms.prod(1, keepdim=True).sqrt(), norms], 1)
    got = ops.grad_dot(*inputs)
    assert_no_worse_than_torch(got, reference.grad_dot(*inputs), oracle, scale)
    return got


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "d_in, d_out",
    [(1, 1), (1, 300), (257, 1), (2, 67), (16, 16), (97, 61), (384, 385), (520, 1031)],
    ids=lambda d: str(d),
)
def test_rows_of_every_length(device, dtype, d_in, d_out):
    """Both forms, tile edges and a prime; gaps; an empty row on either side and on both."""
    lengths = torch.tensor([17, 1, 0, 0, 31, 16, 63, 131, 8])
    rows_old = packed_rows(*lengths.tolist(), gap=1)
    rows_new = packed_rows(*lengths.roll(1).tolist(), start=2)
    tokens = 290
    a_old, a_new = (matrix(tokens, d_in, dtype, device, seed=s) for s in (0, 1))
    d_old, d_new = (matrix(tokens, d_out, dtype, device, seed=s) for s in (2, 3))
    got = assert_close_to_oracle(a_old, d_old, rows_old, a_new, d_new, rows_new)
    assert (got[3] == 0).all(), "an empty pair gives zeros"
    assert got[2, 0] == 0 and got[2, 1] == 0 and got[2, 2] > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("d_in, d_out", [(1, 257), (40, 33), (800, 700)])
def test_long_rows(device, d_in, d_out):
    rows = packed_rows(513, 300)
    a, d = matrix(813, d_in, device=device), matrix(813, d_out, device=device, seed=1)
    assert_close_to_oracle(a, d, rows, a, d, rows.flip(0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tokens, d_in, d_out", [(400, 520, 520), (1000, 2, 300), (70, 4000, 1000)])
def test_roundings_of_long_sums_do_not_add_up(device, tokens, d_in, d_out):
    """Terms that are all the same are all rounded the same way; they are exact in float32."""
    if ops.kernels()[device].startswith("torch reference"):
        pytest.skip("torch adds 1000 terms one after another where a side has two columns")
    a = torch.full((2 * tokens, d_in), 1.9, dtype=torch.bfloat16, device=device)
    d = torch.full((2 * tokens, d_out), 1.9, dtype=torch.bfloat16, device=device)
    rows = packed_rows(tokens, tokens)
    dots = ops.grad_dot(a, d, rows, a, d, rows.flip(0)).double()
    exact = (a[0, 0].double() ** 4 * tokens**2 * d_in * d_out).expand_as(dots)
    torch.testing.assert_close(dots, exact, rtol=1e-6, atol=0)
    sums = ops.grad_abs_sum(a, d, rows).double()
    exact = (a[0, 0].double() ** 2 * tokens * d_in * d_out).expand_as(sums)
    torch.testing.assert_close(sums, exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("d_in, d_out", [(1, 130), (130, 77)])
def test_strides_make_no_difference(device, layout, dtype, d_in, d_out):
    rows, other = packed_rows(9, 20, gap=3), packed_rows(21, 5)
    a, d = matrix(40, d_in, dtype, device), matrix(40, d_out, dtype, device, seed=1)
    got = ops.grad_dot(
        matrix(40, d_in, dtype, device, layout),
        matrix(40, d_out, dtype, device, layout, seed=1),
        rows.repeat(1, 2)[:, 1:3].flip(1),  # strides of rows count too
        a,
        d,
        other,
    )
    assert torch.equal(got, ops.grad_dot(a, d, rows, a, d, other))


@pytest.mark.parametrize("device", DEVICES)
def test_one_padded_batch_holds_old_and_new(device):
    """The usual call: [old rows, new rows] of one batch, flattened, the same tensors twice."""
    a = matrix(6 * 24, 192, torch.bfloat16, device).reshape(6, 24, 192)
    d = matrix(6 * 24, 768, torch.bfloat16, device, seed=1).reshape(6, 24, 768)
    lengths = torch.tensor([20, 24, 3, 22, 23, 5])
    rows = torch.stack([torch.arange(6) * 24, lengths], 1)
    a, d = a.flatten(0, 1), d.flatten(0, 1)
    assert_close_to_oracle(a, d, rows[:3], a, d, rows[3:])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d_in, d_out", [(200, 67), (520, 1031)])
def test_both_answers_in_one_packed_row(device, dtype, d_in, d_out):
    """The same a on both sides, of which one Gram matrix is enough."""
    rows = packed_rows(1, 4, 31, 33, 64, 65, 130, gap=1)
    a = matrix(340, d_in, dtype, device)
    d_old, d_new = (matrix(340, d_out, dtype, device, seed=s) for s in (1, 2))
    for a_new in (a, a.clone()):
        assert_close_to_oracle(a, d_old, rows, a_new, d_new, rows)


@pytest.mark.parametrize("device", DEVICES)
def test_overlapping_rows_and_a_row_with_itself(device):
    a, d = matrix(30, 48, device=device), matrix(30, 50, device=device, seed=1)
    rows_old, rows_new = torch.tensor([[0, 20], [5, 20]]), torch.tensor([[10, 20], [5, 20]])
    dot, norm2_old, norm2_new = assert_close_to_oracle(a, d, rows_old, a, d, rows_new)[1]
    torch.testing.assert_close(dot, norm2_old)
    torch.testing.assert_close(dot, norm2_new)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("d_in", [1, 200])
def test_a_pair_does_not_see_its_company(device, d_in):
    """Bit for bit: alone, in a batch, in another order, and twice."""
    a, d = matrix(120, d_in, device=device), matrix(120, 300, device=device, seed=1)
    rows = packed_rows(17, 40, 3, 60)
    together = ops.grad_dot(a, d, rows, a, d, rows.flip(0))
    assert torch.equal(together, ops.grad_dot(a, d, rows, a, d, rows.flip(0)))
    if ops.kernels()[device].startswith("torch reference"):
        return  # batched products of torch depend on the batch's shape
    alone = [
        ops.grad_dot(a, d, r[None], a, d, n[None]) for r, n in zip(rows, rows.flip(0), strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together.flip(0), ops.grad_dot(a, d, rows.flip(0), a, d, rows))


@pytest.mark.parametrize("d_in", [1, 200])
def test_threads_do_not_change_a_bit(d_in):
    if ops.kernels()["cpu"].startswith("torch reference"):
        pytest.skip("torch's own products may depend on its threads")
    a, d = matrix(400, d_in, torch.bfloat16), matrix(400, 300, torch.bfloat16, seed=1)
    rows = packed_rows(17, 180, 3, 200)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(ops.grad_dot(a, d, rows, a, d, rows.flip(0)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("device", DEVICES)
def test_nothing_in_nothing_out(device):
    a, d, none = matrix(4, 3, device=device), matrix(4, 2, device=device), packed_rows()
    assert ops.grad_dot(a, d, none, a, d, none).shape == (0, 3)
    empty = packed_rows(0)
    assert ops.grad_dot(a[:0], d[:0], empty, a, d, packed_rows(4))[0, :2].tolist() == [0, 0]
    assert ops.grad_dot(a[:, :0], d, packed_rows(4), a[:, :0], d, empty).tolist() == [[0, 0, 0]]
    for ad in ((a[:, :0], d), (a, d[:, :0]), (a[:, :0], d[:, :0])):
        assert ops.grad_dot(*ad, packed_rows(4), *ad, packed_rows(4)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("d", [1, 70])
def test_more_pairs_than_one_launch_takes(device, d):
    lengths = [1 + i % 7 for i in range(150)]
    rows = packed_rows(*lengths)
    a = matrix(sum(lengths), d, device=device)
    d = matrix(sum(lengths), 90, device=device, seed=1)
    assert_close_to_oracle(a, d, rows, a, d, rows.flip(0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("d", [2, 40, 300])
def test_a_side_without_tokens(device, d):
    """There is nothing to be read on it, in either form."""
    a, d = matrix(40, d, device=device), matrix(40, d + 1, device=device)
    rows = packed_rows(40)
    none = matrix(0, a.shape[1], device=device), matrix(0, d.shape[1], device=device)
    none = *none, packed_rows(0)
    dot, norm2_old, norm2_new = ops.grad_dot(a, d, rows, *none)[0]
    assert dot == norm2_new == 0 and norm2_old > 0
    assert ops.grad_dot(*none, a, d, rows)[0].tolist() == [0, 0, norm2_old]


@pytest.mark.parametrize("device", DEVICES)
def test_nan_and_inf_of_other_tokens_stay_out_and_own_ones_come_through(device):
    a, d = matrix(12, 40, device=device), matrix(12, 30, device=device, seed=1)
    a[3:5] = torch.inf
    d[11] = torch.nan
    rows = torch.tensor([[0, 3], [5, 6], [5, 7]])
    got = ops.grad_dot(a, d, rows, a, d, rows)
    assert got[:2].isfinite().all() and got[2].isnan().all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_opcheck(device, dtype):
    a, d = matrix(10, 4, dtype, device), matrix(10, 3, dtype, device)
    rows = packed_rows(6, 4)
    torch.library.opcheck(torch.ops.lga_fast.grad_dot.default, (a, d, rows, a, d, rows.flip(0)))
    none = packed_rows()
    torch.library.opcheck(torch.ops.lga_fast.grad_dot.default, (a, d, none, a, d, none))


def good():
    rows = torch.tensor([[0, 3], [3, 2]])
    names = ("a_old", "d_old", "rows_old", "a_new", "d_new", "rows_new")
    a, d = matrix(5, 4), matrix(5, 3)
    return dict(zip(names, (a, d, rows, a, d, rows), strict=True))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"a_old": [1.0]}, "grad_dot: a_old: expected a Tensor, got list"),
        ({"a_old": matrix(5, 4)[0]}, r"grad_dot: a_old: expected 2 axes, got shape \(4,\)"),
        ({"d_new": matrix(5, 3).int()}, "d_new: expected dtype .*float64, got torch.int32"),
        ({"d_old": matrix(5, 3).half()}, "d_old: expected dtype torch.float32 as a_old, got .*16"),
        (
            {"a_new": matrix(5, 4).half(), "d_new": matrix(5, 3).half()},
            "a_new: expected dtype torch.float32 as a_old, got torch.float16",
        ),
        ({"d_old": matrix(6, 3)}, "d_old: expected 5 tokens as a_old, got 6"),
        ({"a_new": matrix(5, 6)}, "a_new: expected 4 columns as a_old, got 6"),
        ({"d_new": matrix(5, 6)}, "d_new: expected 3 columns as d_old, got 6"),
        ({"a_old": matrix(5, 4).to("meta")}, "d_old: expected device meta as a_old, got cpu"),
        ({"a_old": matrix(5, 4).requires_grad_()}, r"a_old: .*pass a_old.detach\(\)"),
        ({"rows_old": [[0, 3]]}, "rows_old: expected an int64 Tensor, got list"),
        ({"rows_old": torch.tensor([0, 3])}, r"rows_old: expected shape \[n, 2\].*got \(2,\)"),
        ({"rows_new": good()["rows_new"].int()}, "rows_new: expected dtype torch.int64, got .*32"),
        ({"rows_new": torch.tensor([[0, 3]])}, "rows_new: expected 2 rows as rows_old, got 1"),
        ({"rows_old": good()["rows_old"].to("meta")}, "rows_old: expected a CPU tensor .*got meta"),
        (
            {"rows_new": torch.tensor([[0, 3], [3, 3]])},
            r"rows_new\[1\]: .* start \+ length <= 5 tokens, got start 3, length 3",
        ),
        ({"rows_old": torch.tensor([[-1, 3], [3, 2]])}, r"rows_old\[0\]: .*got start -1"),
        ({"rows_old": torch.tensor([[1, -1], [3, 2]])}, r"rows_old\[0\]: .*got .*length -1"),
        ({"rows_old": torch.tensor([[2**62, 2**62], [0, 0]])}, r"rows_old\[0\]: expected"),
    ],
)
def test_bad_input_is_refused_with_numbers(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.grad_dot(**{**good(), **change})


def test_rows_beyond_the_tokens_are_refused_without_the_wrapper_too():
    if ops.kernels()["cpu"].startswith("torch reference"):
        pytest.skip("the reference indexes with torch's own checks")
    bad = {**good(), "rows_new": torch.tensor([[0, 3], [3, 2**40]])}
    with pytest.raises(RuntimeError, match="grad_dot: rows: expected rows within the token axis"):
        torch.ops.lga_fast.grad_dot(*bad.values())
