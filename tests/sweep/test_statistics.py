"""Reductions of a sweep."""

from __future__ import annotations

import numpy as np

from lga_fast.sweep import statistics

NAN = np.nan


def test_means_leave_out_what_is_missing():
    values = np.array([[0.0, 1.0], [NAN, NAN], [1.0, 0.5]])
    np.testing.assert_array_equal(statistics.mean(values), [0.5, 0.75])
    counts = np.array([[0, 3, 0], [2, 0, 2], [0, 1, 3], [1, 5, 0]])
    expected = [[NAN, NAN], [0.5, 0.75], [1.0, 0.5], [0.0, 1.0]]
    np.testing.assert_array_equal(statistics.means(values, counts), expected)


def test_the_combined_score_is_a_samples_mean_of_what_it_has():
    acc = {
        "rewrite": np.array([[1.0, 0.0], [1.0, 1.0], [NAN, NAN]]),
        "rephrase": np.array([[0.5, 0.5], [NAN, NAN], [NAN, NAN]]),
        "locality": np.array([[0.0, 1.0], [0.5, 0.0], [NAN, NAN]]),
    }
    expected = [[0.5, 0.5], [0.75, 0.5], [NAN, NAN]]
    np.testing.assert_array_equal(statistics.combined(acc), expected)
    np.testing.assert_array_equal(statistics.combined({"rewrite": acc["rewrite"]}), acc["rewrite"])


def test_order_goes_by_the_next_value_where_the_first_is_equal():
    first = np.array([0.5, 1.0, 1.0, 1.0, 0.2])
    second = np.array([1.0, 0.3, 0.4, 0.4, 1.0])
    assert statistics.order([first, second]).tolist() == [2, 3, 1, 0, 4]
    assert statistics.order([first]).tolist() == [1, 2, 3, 0, 4]
    nothing = np.full(5, NAN)
    assert statistics.order([first, nothing, second]).tolist() == [2, 3, 1, 0, 4]
    draws = statistics.order([np.stack([first, -first]), np.stack([second, second])])
    assert draws.tolist() == [[2, 3, 1, 0, 4], [4, 0, 2, 3, 1]]


def test_equal_values_in_another_order_are_equal():
    thirds = np.array([[1 / 3, 0.1], [0.1, 1 / 3], [0.7, 0.2], [0.2, 0.7]])
    a, b = statistics.mean(thirds)
    assert a == b


def test_resamples_repeat_and_have_the_samples_number():
    counts = statistics.resamples(7, 50, 1)
    assert counts.shape == (50, 7) and (counts.sum(1) == 7).all()
    np.testing.assert_array_equal(counts, statistics.resamples(7, 50, 1))
