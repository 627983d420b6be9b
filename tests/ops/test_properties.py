"""Any shapes, strides, dtypes and sizes of values: as in float64, or not finite.

`make torture` draws anew and more often (LGA_FAST_EXAMPLES); here the same are drawn each time.
"""

from __future__ import annotations

import math
import os

import pytest
import torch

from lga_fast import ops
from lga_fast.ops import reference
from tests.ops.cases import DTYPES, LAYOUTS, matrix

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

EXAMPLES = int(os.environ.get("LGA_FAST_EXAMPLES", "0"))
drawn = hypothesis.settings(
    max_examples=EXAMPLES or 60, derandomize=not EXAMPLES, deadline=None, database=None
)
SIZES = st.sampled_from([0, 1, 2, 3, 7, 16, 17, 33, 64, 67])


def scales(dtype):
    """Powers of ten that values of a dtype have, from 1e-30 to 1e30 at most."""
    info = torch.finfo(dtype)
    least, most = math.ceil(math.log10(info.tiny)), math.floor(math.log10(info.max)) - 1
    return st.integers(max(-30, least), min(30, most)).map(lambda power: 10.0**power)


@st.composite
def taps(draw, tokens, d_in, d_out, dtype):
    """A [token d_in] and d [token d_out] of values near 10^scale, and rows of them."""
    pair = []
    for width in (d_in, d_out):
        seed, layout = draw(st.integers(0, 99)), draw(st.sampled_from(LAYOUTS))
        values = matrix(tokens, width, torch.float64, seed=seed) * draw(scales(dtype))
        out = matrix(tokens, width, dtype, layout=layout)
        pair.append(out.copy_(values))
    return pair


def some_rows(draw, tokens, count):
    starts = [draw(st.integers(0, tokens)) for _ in range(count)]
    rows = [(start, draw(st.integers(0, tokens - start))) for start in starts]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 2)


def wide(tensors):
    return [x.double() if x.is_floating_point() else x for x in tensors]


def assert_right_or_not_finite(got, exact, size, parts, roundings):
    """Errors are relative to `size`, and where a part leaves the dtype's range the sum may too.

    Args:
        got: of the op.
        exact: in float64.
        size: of what was added up, at most; as `exact`.
        parts: sizes of what is multiplied on the way, each at most; as `exact`.
        roundings: allowed, in units of the dtype.
    """
    info = torch.finfo(got.dtype)
    top = torch.stack([exact.abs(), size, *parts]).amax(0)
    # what is smaller than the smallest normal number may be taken for 0, in either factor
    lost = info.tiny * (1 + torch.stack([torch.ones_like(size), *parts]).sum(0)) * 4096
    error = (got.double() - exact).abs()
    right = error <= roundings * info.eps * size + lost
    assert (right | ((top > info.max / 2) & ~got.isfinite())).all(), (got, exact)


@drawn
@hypothesis.given(st.data())
def test_grad_dot(data):
    dtype, d_in, d_out = (data.draw(s) for s in (st.sampled_from(DTYPES), SIZES, SIZES))
    sides, count = [], data.draw(st.integers(0, 4))
    for _ in range(2):
        tokens = data.draw(SIZES)
        sides += [*data.draw(taps(tokens, d_in, d_out, dtype)), some_rows(data.draw, tokens, count)]
    if data.draw(st.booleans()):  # one tensor on both sides, as of a packed row
        sides[3:] = sides[:3]
    exact = reference.grad_dot(*wide(sides), bias=True)
    got = ops.grad_dot(*sides, bias=True)
    assert got.shape == (count, 2, 3)
    torch.testing.assert_close(got, ops.grad_dot(*sides, bias=True), rtol=0, atol=0, equal_nan=True)
    a, d = (_norms(sides, i) for i in (0, 1))
    ones = [sides[2][:, 1].double().sqrt(), sides[5][:, 1].double().sqrt()]
    inputs = torch.stack([_products(*a), _products(*ones)], 1)
    outputs = _products(*d).unsqueeze(1).expand_as(inputs)
    size = inputs * outputs
    parts = [x.amax(2, keepdim=True).expand_as(size) for x in (inputs, outputs, size)]
    assert_right_or_not_finite(got, exact, size, parts, 64)  # inf · 0 of an empty row is nan


def _norms(sides, which):
    """‖x‖ over each row's tokens, of the old and of the new side."""
    return [
        torch.stack([x[s : s + n].double().norm() for s, n in rows.tolist()])
        if len(rows)
        else torch.zeros(0, dtype=torch.float64)
        for x, rows in ((sides[which], sides[2]), (sides[3 + which], sides[5]))
    ]


def _products(old, new):
    return torch.stack([old * new, old * old, new * new], 1)


@drawn
@hypothesis.given(st.data())
def test_grad_abs_sum(data):
    dtype, tokens, d_in, d_out = (
        data.draw(s) for s in (st.sampled_from(DTYPES), SIZES, SIZES, SIZES)
    )
    a, d = data.draw(taps(tokens, d_in, d_out, dtype))
    rows = some_rows(data.draw, tokens, data.draw(st.integers(0, 4)))
    got, exact = ops.grad_abs_sum(a, d, rows), reference.grad_abs_sum(*wide((a, d, rows)))
    assert got.shape == (len(rows),)
    size = reference.grad_abs_sum(*wide((a.abs(), d.abs(), rows)))
    assert_right_or_not_finite(got, exact, size, [], 64)


@drawn
@hypothesis.given(st.data())
def test_low_rank_update(data):
    dtype, factors = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(DTYPES[2:]))
    d_out, d_in, rank = (data.draw(SIZES) for _ in range(3))
    _, weight = data.draw(taps(d_out, 1, d_in, dtype))
    _, left = data.draw(taps(d_out, 1, rank, factors))
    right, scale = matrix(d_in, rank, factors, layout="strided"), data.draw(scales(torch.float32))
    before = weight.double().clone()  # which a float64 weight is itself
    product = left.double() @ right.double().T
    ops.low_rank_update_(weight, left, right, scale)
    size = left.double().abs() @ right.double().abs().T
    assert_right_or_not_finite(
        weight, before + scale * product, before.abs() + scale * size, [size, size * 0 + scale], 16
    )
