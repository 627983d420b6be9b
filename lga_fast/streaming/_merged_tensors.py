"""Where the values of a tensor lie that transformers merges from several of a checkpoint's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers.core_model_loading import Concatenate, MergeModulelist


def places(
    converter: Any,
    keys: Sequence[tuple[str, str | None]],
    stored: Mapping[str, Tensor],
    numbers: Sequence[int],
) -> list[tuple[str, int]] | None:
    """Key and element of these values of the whole, counted over all of it.

    Known of experts: matrices stacked, each the rows of one matrix or of several.

    Args:
        converter: what transformers puts them together with.
        keys: of the parts, with the converter's pattern that each fits.
        stored: the parts, on `meta`.
        numbers: of the values.

    Returns:
        None: it is put together in another way.
    """
    steps = [(type(one), one.dim) for one in converter.operations if hasattr(one, "dim")]
    stacked, joined = (MergeModulelist, 0), (Concatenate, 1)
    plain = len(steps) == len(converter.operations) and len(converter.target_patterns) == 1
    if not plain or steps not in ([stacked], [stacked, joined]):
        return None
    parts = [[key for key, of in keys if of == pattern] for pattern in converter.source_patterns]
    sizes = [stored[part[0]].numel() for part in parts]  # of one expert's
    found = []
    for number in numbers:
        expert, within = divmod(number, sum(sizes))
        for part, size in zip(parts, sizes, strict=True):
            if within < size:
                found.append((part[expert], within))
                break
            within -= size
    return found
