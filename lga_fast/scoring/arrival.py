"""Results that travel from the device to the host while the next batch is launched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Arrival:
    """Tensors on their way to the host, and what takes them there."""

    def __init__(self, tensors: Sequence[Tensor], take: Callable[..., None]) -> None:
        self._tensors = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        self._take = take
        self._copied = None
        if tensors[0].is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(tensors[0].device))

    def take(self) -> None:
        """Wait for them, if they are not there yet."""
        if self._copied is not None:
            self._copied.synchronize()
        self._take(*self._tensors)
