"""Kinds of tensors that the ops do not take, and what becomes of them."""

import itertools

import pytest
import torch
from torch.autograd import forward_ad

from lga_fast import ops
from tests.ops.cases import matrix, packed_rows

ROWS = packed_rows(3, 2)
CALLS = {
    "grad_dot": (matrix(5, 4), matrix(5, 3), ROWS, matrix(5, 4), matrix(5, 3), ROWS),
    "grad_abs_sum": (matrix(5, 4), matrix(5, 3), ROWS),
    "low_rank_update_": (matrix(5, 4), matrix(5, 2), matrix(4, 2), 1.0),
}
TENSORS = [
    (op, i)
    for op, arguments in CALLS.items()
    for i, x in enumerate(arguments)
    if isinstance(x, torch.Tensor)
]
FLOATS = [(op, i) for op, i in TENSORS if CALLS[op][i].is_floating_point()]


def arguments(op, index, changed):
    """Those of a good call, with one of them changed."""
    values = [x.clone() if isinstance(x, torch.Tensor) else x for x in CALLS[op]]
    values[index] = changed(values[index])
    return values


@pytest.mark.parametrize("op, index", TENSORS)
def test_a_meta_tensor_among_others_is_refused_without_the_wrapper_too(op, index):
    """Torch then asks the fake kernel, whose results are memory that nothing has written."""
    with pytest.raises(ValueError, match=f"{op}: (rows: )?expected"):
        getattr(torch.ops.lga_fast, op)(*arguments(op, index, lambda x: x.to("meta")))


@pytest.mark.parametrize("op", CALLS)
def test_meta_tensors_alone_give_shapes(op):
    values = [
        x.to("meta") if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for x in CALLS[op]
    ]
    result = getattr(torch.ops.lga_fast, op)(*values)
    assert result is None or result.device.type == "meta"


@pytest.mark.parametrize("op, index", FLOATS)
def test_a_sparse_tensor_is_refused(op, index):
    with pytest.raises(ValueError, match=rf"{op}: .*dense tensor \(pass .*to_dense.*sparse_coo"):
        getattr(ops, op)(*arguments(op, index, torch.Tensor.to_sparse))


RAW = {
    "requires_grad": lambda x: x.requires_grad_(),
    "sparse": torch.Tensor.to_sparse,
    "nested": lambda x: torch.nested.nested_tensor([x, x]),
    "no axis": torch.Tensor.flatten,
    "integers": torch.Tensor.int,
    "complex": lambda x: torch.complex(x, x).conj(),
    "fewer": lambda x: x[:-1],
    "None": lambda x: None,
}
RAW_ROWS = {"int32": torch.Tensor.int, "no axis": torch.Tensor.flatten, "far": lambda x: x + 9}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("op, index", TENSORS)
def test_without_the_wrapper_what_is_refused_is_refused_too(op, index):
    """With the extension and without it; some by the kernels, whose checks say less."""
    for name, change in (RAW if (op, index) in FLOATS else RAW_ROWS).items():
        values = arguments(op, index, change)
        before = values[0].detach().clone() if name != "None" and index else None
        with pytest.raises((ValueError, TypeError, RuntimeError), match=f"{op}: .*expected"):
            getattr(torch.ops.lga_fast, op)(*values)
        assert before is None or torch.equal(values[0], before)


@pytest.mark.parametrize("inference", [False, True])
def test_memory_that_elements_share_is_refused_without_the_wrapper_too(inference):
    """Of inference tensors by the kernels: autograd, which would come before, passes them by."""
    _, *factors, scale = CALLS["low_rank_update_"]
    with torch.inference_mode(inference):
        row, line = torch.zeros(1, 4), torch.zeros(9)
        strided = [line.as_strided((5, 4), strides) for strides in ((1, 1), (0, 1), (1, 0), (0, 0))]
        for shared in (row.expand(5, 4), *strided):
            with pytest.raises((ValueError, RuntimeError), match="weight: expected elements that"):
                torch.ops.lga_fast.low_rank_update_(shared, *factors, scale)
            assert not shared.any()
        one_row, of_row = line.as_strided((1, 4), (0, 1)), (factors[0][:1], factors[1])
        torch.ops.lga_fast.low_rank_update_(one_row, *of_row, scale)  # which share none
        assert one_row.any()


def test_autograd_notices_a_change_without_the_wrapper_too():
    weight, left, right, scale = arguments("low_rank_update_", 0, torch.clone)
    version = weight._version
    torch.ops.lga_fast.low_rank_update_(weight, left, right, scale)
    assert weight._version > version


forward_mode = pytest.mark.filterwarnings(  # torch's own, the first time that it is used
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)


@forward_mode
@pytest.mark.parametrize("op, index", FLOATS)
def test_a_derivative_in_forward_mode_is_refused(op, index):
    def with_tangent(x):
        return forward_ad.make_dual(x, torch.ones_like(x))

    for way in (ops, torch.ops.lga_fast):
        with forward_ad.dual_level(), pytest.raises(ValueError, match=f"{op}: .*without a tangent"):
            getattr(way, op)(*arguments(op, index, with_tangent))


@forward_mode
def test_jvp_is_refused():
    a, d, rows = CALLS["grad_abs_sum"]
    with pytest.raises(ValueError, match="a: expected a tensor without a tangent"):
        torch.func.jvp(lambda a: ops.grad_abs_sum(a, d, rows), (a,), (a,))


@pytest.mark.parametrize("op, index", FLOATS)
def test_the_negative_bit_is_resolved_or_refused(op, index):
    def negated(x):
        return torch.complex(torch.zeros_like(x), -x).conj().imag

    values, expected = arguments(op, index, negated), arguments(op, index, lambda x: x)
    assert values[index].is_neg() and torch.equal(values[index], expected[index])
    if op == "low_rank_update_" and index == 0:
        with pytest.raises(ValueError, match="weight: .*negative bit"):
            ops.low_rank_update_(*values)
        return
    results = [getattr(ops, op)(*v) for v in (values, expected)]
    changed = [
        v[0] if op == "low_rank_update_" else r
        for v, r in zip((values, expected), results, strict=True)
    ]
    torch.testing.assert_close(*changed)


@pytest.mark.parametrize("op", CALLS)
def test_the_checks_are_traced(op):
    torch._dynamo.reset()
    values = CALLS[op]
    compiled = torch.compile(getattr(ops, op), backend="eager", fullgraph=True)
    copies = [[x.clone() if isinstance(x, torch.Tensor) else x for x in values] for _ in range(2)]
    results = compiled(*copies[0]), getattr(ops, op)(*copies[1])
    for one, other in itertools.chain(zip(*copies, strict=True), [results]):
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(one, other)
