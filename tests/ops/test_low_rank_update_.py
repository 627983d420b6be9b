import pytest
import torch

from lga_fast import ops
from lga_fast.ops import reference
from tests.ops.cases import DEVICES, DTYPES, LAYOUTS, matrix
from tests.ops.closeness import assert_no_worse_than_torch


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rank", [1, 5, 131])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("d_out, d_in", [(1, 1), (61, 97), (257, 49), (50, 513)])
def test_update(device, dtype, rank, layout, d_out, d_in):
    """Stored by row, by column (a Conv1D weight seen as [d_out d_in]), as slice, with gaps."""
    factor_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    left = matrix(d_out, rank, factor_dtype, device, seed=1)
    right = matrix(d_in, rank, factor_dtype, device, "strided", seed=2)
    got, plain = (matrix(d_out, d_in, dtype, device, layout) for _ in range(2))
    oracle = got.double() + 0.37 * left.double() @ right.double().T
    # an element's error is a rounding of the weight or of the longest partial sum
    scale = got.double().abs() + 0.37 * left.double().abs() @ right.double().abs().T
    ops.low_rank_update_(got, left, right, 0.37)
    reference.low_rank_update_(plain, left, right, 0.37)
    assert_no_worse_than_torch(got, plain, oracle, scale)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_is_rounded_once(device, dtype):
    """A step of a quarter of a rounding is not lost on its way, only at the store."""
    weight = torch.ones(3, 40, dtype=dtype, device=device)
    eps = torch.finfo(dtype).eps
    left, right = torch.ones(3, 4, device=device), torch.full((40, 4), eps / 4, device=device)
    ops.low_rank_update_(weight, left, right)
    assert (weight == 1 + eps).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_stores_what_torch_stores(device, dtype):
    """Every kind of number: subnormal, halfway, overflowing, infinite, nan."""
    tiny = torch.finfo(dtype).tiny
    values = [
        0.0,
        tiny / 3,
        tiny,
        1 + torch.finfo(dtype).eps / 2,
        65504.0,
        65519.9,
        65520.0,
        3.39e38,
    ]
    values = torch.tensor([*values, torch.inf, torch.nan], device=device)
    values = torch.cat([values, -values, matrix(500, 1, device=device)[:, 0] * 1e-6])
    weight = torch.zeros(1, len(values), dtype=dtype, device=device)
    ops.low_rank_update_(weight, torch.ones(1, 1, device=device), values[:, None])
    torch.testing.assert_close(weight[0], values.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("transposed", [False, True])
def test_the_rest_of_the_buffer_is_untouched(device, transposed):
    buffer = matrix(90, 80, torch.bfloat16, device)
    before = buffer.clone()
    part = buffer[10:70, 5:78]
    ops.low_rank_update_(
        part.T if transposed else part,
        *(matrix(n, 2, device=device) for n in ((73, 60) if transposed else (60, 73))),
    )
    inside = torch.zeros_like(buffer, dtype=torch.bool)
    inside[10:70, 5:78] = True
    assert torch.equal(buffer[~inside], before[~inside])
    assert (buffer[inside] != before[inside]).float().mean() > 0.9


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shared", ["left", "right"])
def test_factors_may_be_views_of_the_weight(device, transposed, shared):
    """As in plain torch, where the product is there before anything is written."""
    weight = matrix(300, 300, device=device)
    weight = weight.T if transposed else weight
    factors = {
        "left": matrix(300, 3, device=device, seed=1),
        "right": matrix(300, 3, device=device, seed=2),
    }
    expected = weight.clone()
    reference.low_rank_update_(expected, **factors | {shared: weight[:, 100:103].clone()}, scale=1)
    ops.low_rank_update_(weight, **factors | {shared: weight[:, 100:103]})
    torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_nothing_to_add_changes_nothing(device):
    weight = matrix(6, 5, torch.bfloat16, device)
    before = weight.clone()
    ops.low_rank_update_(weight, matrix(6, 0, device=device), matrix(5, 0, device=device))
    ops.low_rank_update_(weight, matrix(6, 2, device=device), matrix(5, 2, device=device), 0.0)
    assert torch.equal(weight, before)
    ops.low_rank_update_(weight[:0], matrix(0, 2, device=device), matrix(5, 2, device=device))


@pytest.mark.parametrize("device", DEVICES)
def test_autograd_notices_the_change(device):
    weight = matrix(3, 4, device=device)
    version = weight._version
    ops.low_rank_update_(weight, matrix(3, 1, device=device), matrix(4, 1, device=device))
    assert weight._version > version


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_opcheck(device, dtype):
    factors = matrix(5, 2, device=device), matrix(4, 2, device=device)
    op = torch.ops.lga_fast.low_rank_update_.default
    torch.library.opcheck(op, (matrix(5, 4, dtype, device), *factors, 0.5))
    torch.library.opcheck(op, (matrix(4, 5, dtype, device).T, *factors, 0.5))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weight": matrix(5, 4).int()}, "low_rank_update_: weight: expected dtype"),
        ({"weight": matrix(5, 4).requires_grad_()}, r"weight: .*pass weight.detach\(\)"),
        (
            {"left": matrix(5, 2).half()},
            "left: expected dtype torch.float32 or .*got torch.float16",
        ),
        ({"left": matrix(4, 2)}, "left: expected 5 rows as weight has on axis 0, got 4"),
        ({"right": matrix(5, 2)}, "right: expected 4 rows as weight has on axis 1, got 5"),
        ({"right": matrix(4, 3)}, "right: expected rank 2 as left, got 3"),
        ({"right": matrix(4, 2).double()}, "right: expected dtype torch.float32 as left, got .*64"),
        ({"left": matrix(5, 2).to("meta")}, "left: expected device cpu as weight, got meta"),
        ({"weight": matrix(1, 4).expand(5, 4)}, r"do not share memory, got strides \(0, 1\)"),
        ({"weight": matrix(1, 9)[0].as_strided((5, 4), (1, 1))}, "do not share memory"),
    ],
)
def test_bad_input_is_refused_with_numbers(change, message):
    good = {"weight": matrix(5, 4), "left": matrix(5, 2), "right": matrix(4, 2)}
    with pytest.raises(ValueError, match=message):
        ops.low_rank_update_(**{**good, **change})
