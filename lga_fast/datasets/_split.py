"""Splitting requests into a proxy set, on which a layer is chosen, and a test set."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from lga_fast.datasets._report import LoadedEdits
from lga_fast.errors import DataError, OptionError
from lga_fast.options import SEEDS, checked
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Split:
    """Two parts of a list of requests with their places in it; unpacks to the two parts."""

    proxy: list[EditRequest]
    test: list[EditRequest]
    proxy_indices: tuple[int, ...]
    test_indices: tuple[int, ...]
    seed: int

    def __iter__(self) -> Iterator[list[EditRequest]]:
        """The proxy part, then the test part."""
        return iter((self.proxy, self.test))


def split(requests: Sequence[EditRequest], proxy: float | int = 0.1, seed: int = 42) -> Split:
    """Shuffle with `random.Random(seed)`; the first `round(proxy * n)` are the proxy part.

    A whole number is the size of the proxy part itself.

    Raises:
        DataError: a part would be empty.
        OptionError: `proxy` is neither a fraction between 0 and 1 nor a whole number of at least 1,
            or `seed` is not a whole number from 0 to 2^63 - 1.

    Example:
        >>> proxy, test = split(edits)
        >>> len(proxy), len(test)
        (130, 1174)
    """
    n, seed = len(requests), checked(seed, int, SEEDS, "split: seed")
    if isinstance(proxy, Integral):
        size = checked(proxy, int, {"min": 1}, "split: proxy")
    elif isinstance(proxy, Real) and 0 < proxy < 1:
        size = round(proxy * n)
    else:
        raise OptionError(
            f"split: proxy: expected a fraction between 0 and 1, or a whole number, got {proxy!r}"
        )
    if not 0 < size < n:
        raise DataError(
            f"proxy={proxy} of {n} requests leaves {max(n - size, 0)} for the test part and "
            f"{size} for the proxy part; both need one. Give a whole number from 1 to {n - 1}."
            if n > 1
            else f"cannot split {n} requests into two parts; at least two are needed"
        )
    indices = list(range(n))
    random.Random(seed).shuffle(indices)
    first, rest = tuple(indices[:size]), tuple(indices[size:])
    return Split(_part(requests, first), _part(requests, rest), first, rest, seed)


def _part(requests: Sequence[EditRequest], indices: tuple[int, ...]) -> list[EditRequest]:
    """These requests, with the report and provenance of loading them if there are any."""
    if isinstance(requests, LoadedEdits):
        return requests.take(indices)
    return [requests[i] for i in indices]
