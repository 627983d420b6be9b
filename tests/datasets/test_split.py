"""The proxy and test parts."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lga_fast.datasets import split
from lga_fast.errors import DataError, OptionError
from lga_fast.records import EditRequest


def requests(n):
    return [EditRequest(str(i), f"prompt {i}", "target") for i in range(n)]


def test_shuffle_and_sizes():
    edits = requests(96)
    parts = split(edits)
    order = list(range(96))
    random.Random(42).shuffle(order)
    assert [*parts.proxy_indices, *parts.test_indices] == order
    proxy, test = parts
    assert (len(proxy), len(test)) == (10, 86)
    assert proxy == [edits[i] for i in order[:10]] and test == [edits[i] for i in order[10:]]
    assert split(edits) == parts != split(edits, seed=1)


def test_the_global_generator_is_left_alone():
    random.seed(5)
    state = random.getstate()
    split(requests(20))
    assert random.getstate() == state


def test_number_instead_of_fraction():
    proxy, test = split(requests(12), proxy=3)
    assert (len(proxy), len(test)) == (3, 9)


@pytest.mark.parametrize(
    ("n", "proxy", "says"),
    [
        (3, 0.1, "leaves 3 for the test part and 0 for the proxy part"),
        (3, 3, "Give a whole number from 1 to 2."),
        (1, 0.5, "cannot split 1 requests into two parts"),
    ],
)
def test_empty_parts_are_refused(n, proxy, says):
    with pytest.raises(DataError) as caught:
        split(requests(n), proxy)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"proxy": 0}, "proxy: expected a whole number of at least 1, got 0"),
        ({"proxy": -3}, "proxy: expected a whole number of at least 1, got -3"),
        ({"proxy": True}, "proxy: expected a whole number of at least 1, got True"),
        ({"proxy": 1.0}, "proxy: expected a fraction between 0 and 1, or a whole number, got 1.0"),
        ({"proxy": -0.1}, "proxy: expected a fraction between 0 and 1"),
        ({"proxy": float("nan")}, "proxy: expected a fraction between 0 and 1"),
        ({"proxy": "0.1"}, "proxy: expected a fraction between 0 and 1"),
        ({"seed": -1}, "seed: expected a whole number from 0 to 9223372036854775807, got -1"),
        ({"seed": 1.5}, "seed: expected a whole number from 0 to"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(OptionError) as caught:
        split(requests(10), **options)
    assert says in str(caught.value)


def test_sizes_and_seeds_of_numpy():
    assert split(requests(10), np.int64(3), np.int64(1)) == split(requests(10), 3, 1)
