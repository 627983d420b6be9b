"""The reference against autograd: the weight gradients themselves, formed, in float64."""

import pytest
import torch

from lga_fast.ops import reference
from tests.ops.cases import packed_rows


@pytest.fixture(params=[(7, 5), (1, 6), (6, 1), (3, 3)], ids=str)
def linear(request):
    """A linear map's rows: inputs, output gradients and autograd's weight gradients."""
    d_in, d_out = request.param
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(d_out, d_in, dtype=torch.float64, generator=generator, requires_grad=True)
    rows = packed_rows(4, 0, 1, 9, 5)
    a = torch.randn(int(rows[:, 1].sum()), d_in, dtype=torch.float64, generator=generator)
    y = a @ weight.T
    losses = [y[s : s + n].tanh().square().sum() for s, n in rows.tolist()]
    gradients = torch.stack(
        [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses]
    )
    (d,) = torch.autograd.grad(torch.stack(losses).sum(), y)
    return a, d, rows, gradients


def test_grad_dot_is_the_product_of_autograds_weight_gradients(linear):
    a, d, rows, gradients = linear
    new = torch.tensor([3, 0, 4, 1, 2])
    got = reference.grad_dot(a, d, rows, a, d, rows[new])
    old_g, new_g = gradients.flatten(1), gradients[new].flatten(1)
    expected = torch.stack(
        [(old_g * new_g).sum(1), old_g.square().sum(1), new_g.square().sum(1)], 1
    )
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


def test_grad_dot_gives_the_same_by_gram_products_and_by_gradients(linear, monkeypatch):
    a, d, rows, _ = linear
    results = []
    for gram in (True, False):
        monkeypatch.setattr(reference, "gram_is_cheaper", lambda *_, gram=gram: gram)
        results.append(reference.grad_dot(a, d, rows, a, d, rows.flip(0)))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


def test_grad_abs_sum_is_the_sum_over_autograds_weight_gradients(linear, monkeypatch):
    a, d, rows, gradients = linear
    monkeypatch.setattr(reference, "TILE", 2)  # so that there is more than one
    got = reference.grad_abs_sum(a, d, rows)
    torch.testing.assert_close(got, gradients.abs().sum((1, 2)), rtol=1e-12, atol=1e-14)


def test_low_rank_update_adds_the_product():
    weight, left, right = torch.zeros(2, 3), torch.tensor([[1.0], [2.0]]), torch.ones(3, 1)
    reference.low_rank_update_(weight, left, right, 0.5)
    assert weight.tolist() == [[0.5] * 3, [1.0] * 3]
