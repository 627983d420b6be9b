"""Reading one safetensors file by offsets.

A tensor is read in one go, into memory of its own: pages of a mapped file would be faulted in
during a matrix product, where no other thread can prefetch them. It gets the alignment that it
would have in a mapped file, modulo 64 bytes: a CPU's matrix product may round differently for
differently aligned operands, and resident weights are mapped.
"""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path

import torch
from torch import Tensor

_LINE = 64  # bytes of a cache line, and torch's own alignment


class SafetensorsReader:
    """The tensors of a safetensors file: their offsets and bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        length = int.from_bytes(self._file.read(8), "little")
        header = json.loads(self._file.read(length))
        self.offsets = {
            name: 8 + length + entry["data_offsets"][0]
            for name, entry in header.items()
            if name != "__metadata__"
        }

    def read(self, name: str, dtype: torch.dtype, first: int, count: int) -> Tensor:
        """`count` elements of a tensor from `first` on, in its stored dtype."""
        offset = self.offsets[name] + first * dtype.itemsize
        size = count * dtype.itemsize
        storage = torch.UntypedStorage(size + _LINE)
        shift = (offset - storage.data_ptr()) % _LINE
        # A slice, not a storage offset, which would count whole elements: some writers do not pad
        # the header, so that tensors start at any byte.
        within = storage[shift : shift + size]
        view, done = torch.empty(0, dtype=torch.uint8).set_(within).numpy().data, 0
        while done < size:
            got = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            if not got:
                raise OSError(f"{self._file.name}: ends {size - done} bytes too early in {name}")
            done += got
        return torch.empty(0, dtype=dtype).set_(within)
