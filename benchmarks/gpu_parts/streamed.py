"""A checkpoint of 6 GB streamed through 3 GiB of the device, against what binds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import streamed
import streamed_cuda


def rows(device: str, small: bool) -> Iterator[dict[str, Any]]:
    """One row from the disk and one from CPU memory."""
    config = streamed.shape(3, 64, 96, 500) if small else streamed.shape(36, 2560, 6912, 32000)
    yield from streamed_cuda.measure(
        config, 1 << 30 if small else 3 << 30, facts=3 if small else 32, device=device
    )
