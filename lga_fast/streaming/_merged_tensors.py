"""Where the values of a tensor are stored that transformers merges from several others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers.core_model_loading import Concatenate, MergeModulelist


def locations(
    converter: Any,
    keys: Sequence[tuple[str, str | None]],
    stored: Mapping[str, Tensor],
    numbers: Sequence[int],
) -> list[tuple[str, int]] | None:
    """Key and element of chosen values of the merged tensor.

    Knows how experts are merged: stacked matrices, each the rows of one or more stored matrices.

    Args:
        converter: what transformers merges them with.
        keys: of the stored tensors, each with the converter's pattern that it matches.
        stored: the stored tensors, on `meta`.
        numbers: indices of the values in the flattened merged tensor.

    Returns:
        None: they are merged in another way.
    """
    steps = [(type(one), one.dim) for one in converter.operations if hasattr(one, "dim")]
    stacked, joined = (MergeModulelist, 0), (Concatenate, 1)
    plain = len(steps) == len(converter.operations) and len(converter.target_patterns) == 1
    if not plain or steps not in ([stacked], [stacked, joined]):
        return None
    parts = [[key for key, of in keys if of == pattern] for pattern in converter.source_patterns]
    sizes = [stored[part[0]].numel() for part in parts]  # per expert
    locations = []
    for number in numbers:
        expert, within = divmod(number, sum(sizes))
        for part, size in zip(parts, sizes, strict=True):
            if within < size:
                locations.append((part[expert], within))
                break
            within -= size
    return locations
