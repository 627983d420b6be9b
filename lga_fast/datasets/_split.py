"""Splitting requests into a proxy set, on which a layer is chosen, and a test set."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lga_fast.datasets._report import LoadedEdits
from lga_fast.errors import DataError
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Split:
    """Two parts of a list of requests, and where each request stood in it; unpacks to the parts."""

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

    A whole number is the size of the proxy part itself. Raises `DataError` when a part would be
    empty.

    Example:
        >>> proxy, test = split(edits)
        >>> len(proxy), len(test)
        (130, 1174)
    """
    n = len(requests)
    whole = isinstance(proxy, int)
    if not whole and not 0 < proxy < 1:
        raise DataError(f"proxy={proxy}: expected a fraction between 0 and 1, or a whole number")
    size = int(proxy) if whole else round(proxy * n)
    if not 0 < size < n:
        raise DataError(
            f"proxy={proxy} of {n} requests leaves {max(n - size, 0)} for the test part and "
            f"{size} for the proxy part; both need one. Give a whole number from 1 to {n - 1}."
            if n > 1
            else f"cannot split {n} requests into two parts; two are the least"
        )
    indices = list(range(n))
    random.Random(seed).shuffle(indices)
    first, rest = tuple(indices[:size]), tuple(indices[size:])
    return Split(_part(requests, first), _part(requests, rest), first, rest, seed)


def _part(requests: Sequence[EditRequest], indices: tuple[int, ...]) -> list[EditRequest]:
    """These requests; with the report and provenance of their loading where they have them."""
    part = [requests[i] for i in indices]
    if isinstance(requests, LoadedEdits):
        return LoadedEdits(part, requests.report, requests.provenance)
    return part
